from tf_prac.tuning.space import Range as Range
from tf_prac.tuning.tuner import PracTuner as PracTuner
