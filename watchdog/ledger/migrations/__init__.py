"""alembic's folder: `env.py` and one file per change of the schema."""
