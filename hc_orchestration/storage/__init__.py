"""Delta tables, records and files by digest: the only code that knows paths and schemas."""
