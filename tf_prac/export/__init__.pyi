from tf_prac.export.formats import keras_file as keras_file
from tf_prac.export.formats import npz as npz
from tf_prac.export.lite import tflite as tflite
from tf_prac.export.load import load_sparse as load_sparse
from tf_prac.export.size import SizeReport as SizeReport
from tf_prac.export.size import size_report as size_report
from tf_prac.export.writer import Export as Export
from tf_prac.export.writer import saved_model as saved_model
