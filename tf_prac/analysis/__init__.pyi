from tf_prac.analysis.arms import ARMS as ARMS
from tf_prac.analysis.arms import Arm as Arm
from tf_prac.analysis.comparison import Comparison as Comparison
from tf_prac.analysis.report.page import write_report as write_report
from tf_prac.analysis.report.run_data import read_run_data as read_run_data
from tf_prac.analysis.sweep import RewindSweep as RewindSweep
