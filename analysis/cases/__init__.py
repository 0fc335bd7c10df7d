"""The case format: recorded deploys as `cases.json` and Parquet files beside it, read and written.

Daemon, backtest and notebooks all come through here. It touches files and knows pandas, which it loads only when asked
to read or write; the judge and everything below it may not import this.
"""

from analysis.cases.reading import BadCasesError, Case, read_cases, read_descriptions
from analysis.cases.writing import Recording, write_cases

__all__ = ["BadCasesError", "Case", "Recording", "read_cases", "read_descriptions", "write_cases"]
