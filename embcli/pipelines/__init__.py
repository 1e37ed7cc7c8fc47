"""The ways a record and a query travel: what puts readers, encoders, core and store together."""
