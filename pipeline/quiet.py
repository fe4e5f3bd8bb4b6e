"""What libraries say to developers is no news to a user of the command line. Import before TensorFlow is."""

import os
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if not sys.warnoptions:
    warnings.simplefilter("ignore")
