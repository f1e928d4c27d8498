from tf_prac.registry import TASKS as TASKS
from tf_prac.tasks.classification import Binary as Binary
from tf_prac.tasks.classification import MultiLabel as MultiLabel
from tf_prac.tasks.classification import OneHot as OneHot
from tf_prac.tasks.classification import Sparse as Sparse
from tf_prac.tasks.outputs import Outputs as Outputs
from tf_prac.tasks.regression import Regression as Regression
from tf_prac.tasks.task import Task as Task
