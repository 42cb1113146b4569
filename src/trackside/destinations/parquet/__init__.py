"""The Parquet destination: a table of points a run, for whoever reads them with a query."""
