"""`python -m keras_recnet`: the command line."""

import sys

from keras_recnet.cli.main import main

sys.exit(main())
