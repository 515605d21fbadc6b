"""Data sets: by name, from files, or synthetic."""

from gflow.data.named import Data as Data
from gflow.data.named import load as load
from gflow.data.named import names as names
from gflow.data.ratings import Ratings as Ratings
from gflow.data.ratings import load_ratings as load_ratings
