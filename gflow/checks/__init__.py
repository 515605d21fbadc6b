"""Checks of arguments that several modules share; each raises InputError in one line.

Those of a number, of several or of a tensor return it as a plain number, a list or a tensor:
NumPy's numbers and arrays are taken, and tensors of one number; booleans and strings are not.
"""

from gflow.checks.functions import evaluated as evaluated
from gflow.checks.functions import require_callable as require_callable
from gflow.checks.numbers import is_number as is_number
from gflow.checks.numbers import require_bool as require_bool
from gflow.checks.numbers import require_count as require_count
from gflow.checks.numbers import require_depth as require_depth
from gflow.checks.numbers import require_fraction as require_fraction
from gflow.checks.numbers import require_not_negative as require_not_negative
from gflow.checks.numbers import require_number as require_number
from gflow.checks.numbers import require_numbers as require_numbers
from gflow.checks.numbers import require_positive as require_positive
from gflow.checks.numbers import shown as shown
from gflow.checks.tensors import require_dtype_and_device as require_dtype_and_device
from gflow.checks.tensors import require_finite as require_finite
from gflow.checks.tensors import require_float as require_float
from gflow.checks.tensors import require_nonempty as require_nonempty
from gflow.checks.tensors import require_single_start as require_single_start
from gflow.checks.tensors import require_table as require_table
from gflow.checks.tensors import require_tensor as require_tensor
from gflow.checks.tensors import require_times as require_times
