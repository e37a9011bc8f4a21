"""A converter that fails before it has imported anything."""


def convert(*arguments: str) -> None:
    raise FileNotFoundError("no vocabulary")
