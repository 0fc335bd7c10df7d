"""Where samples come from. To add a source: a file, and a line here."""

from watchdog.ports import Source
from watchdog.sources.prometheus import PrometheusSource
from watchdog.sources.recorded import RecordedSource
from watchdog.sources.scrape import ScrapeSource

SOURCES: dict[str, type[Source]] = {
    "prometheus": PrometheusSource,
    "recorded": RecordedSource,
    "scrape": ScrapeSource,
}
