"""The training wing's tab: Train. It shows and starts; whatever loads an engine runs as a job."""
