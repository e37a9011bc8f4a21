"""Engines that run a model inside a worker process, loaded lazily by kind."""
