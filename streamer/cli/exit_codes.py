"""What a command's exit code means; the numbers are those of sysexits.h."""

EXIT_OK = 0
EXIT_USAGE = 64  # the command line is wrong
EXIT_DATA = 65  # a data file cannot be used, or cannot train a model
EXIT_BROKER = 69  # the broker is away or refuses
EXIT_INTERNAL = 70  # an error in streamer itself
EXIT_CONFIG = 78  # a setting or the model is wrong
EXIT_INTERRUPTED = 130  # Ctrl-C
