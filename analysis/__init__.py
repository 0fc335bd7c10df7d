"""The core: arrays in, evidence out. No clock, no files, no network, no pandas, no daemon."""
