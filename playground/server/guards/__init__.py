"""What stands around the routes: log, metrics, keys, rate, body and queue."""
