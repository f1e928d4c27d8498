"""The operations that the graph of a SavedModel may have.

TensorFlow has about 2000 operations, and a flag says of each whether it has state. That flag does
not say whether it is safe: `ImmutableConst` maps a file into memory, and `DatasetFromGraph` runs a
graph of any operations that is hidden in a string. So each operation that is allowed is listed
here: it computes its result from its inputs, or reads or assigns variables and tables of the model.
Not listed are operations on files, networks, data sets, devices and Python, those that contain
another program, and decoders of file formats.
"""

from __future__ import annotations

ARITHMETIC = """
    Abs AccumulateNV2 Acos Acosh Add AddN AddV2 All Angle Any ApproximateEqual ArgMax ArgMin Asin
    Asinh Atan Atan2 Atanh BesselI0 BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1 BesselK0
    BesselK0e BesselK1 BesselK1e BesselY0 BesselY1 Betainc Bincount BitwiseAnd BitwiseOr BitwiseXor
    Bucketize Cast Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum
    CumulativeLogsumexp DenseBincount Digamma Div DivNoNan Equal Erf Erfc Erfinv EuclideanNorm Exp
    Expm1 Floor FloorDiv FloorMod Greater GreaterEqual HistogramFixedWidth Igamma Igammac Imag Inv
    Invert IsFinite IsInf IsNan LeftShift Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot
    LogicalOr Max Maximum Mean Min Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual Polygamma
    PopulationCount Pow Prod RaggedBincount Range Real RealDiv Reciprocal RightShift Rint Round
    Rsqrt SegmentMax SegmentMaxV2 SegmentMean SegmentMin SegmentMinV2 SegmentProd SegmentProdV2
    SegmentSum SegmentSumV2 Sigmoid Sign Sin Sinh Sqrt Square SquaredDifference Sub Sum Tan Tanh
    TruncateDiv TruncateMod UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd
    UnsortedSegmentSum Xdivy Xlog1py Xlogy Zeta
"""
LINEAR_ALGEBRA = """
    BandedTriangularSolve BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky Einsum FFT FFT2D FFT3D
    FFTND IFFT IFFT2D IFFT3D IFFTND IRFFT IRFFT2D IRFFT3D IRFFTND LogMatrixDeterminant Lu MatMul
    MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3
    MatrixDiagV2 MatrixDiagV3 MatrixExponential MatrixInverse MatrixLogarithm MatrixSetDiag
    MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve MatrixSolveLs MatrixSquareRoot MatrixTriangularSolve
    Qr RFFT RFFT2D RFFT3D RFFTND SelfAdjointEigV2 SparseMatMul SparseTensorDenseMatMul Svd
    TridiagonalMatMul TridiagonalSolve
"""
ARRAYS = """
    BatchToSpace BatchToSpaceND Bitcast BroadcastArgs BroadcastTo Concat ConcatOffset ConcatV2
    ConjugateTranspose Const DepthToSpace Diag DiagPart DynamicPartition DynamicStitch EnsureShape
    ExpandDims Fill Gather GatherNd GatherV2 GuaranteeConst Identity IdentityN InvertPermutation
    LinSpace ListDiff LowerBound MirrorPad NthElement OneHot OnesLike Pack Pad PadV2 ParallelConcat
    ParallelDynamicStitch PreventGradient Rank Reshape Reverse ReverseSequence ReverseV2 Roll
    ScatterNd ScatterNdNonAliasingAdd Select SelectV2 Shape ShapeN Size Slice SpaceToBatch
    SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient StridedSlice TensorScatterAdd
    TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate TensorStridedSliceUpdate
    Tile TopK TopKV2 Transpose Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack
    UnravelIndex UpperBound Where ZerosLike DenseToDenseSetOperation DenseToSparseSetOperation
    SetSize SparseToSparseSetOperation DenseCountSparseOutput SparseAdd SparseBincount SparseConcat
    SparseCountSparseOutput SparseCross SparseCrossHashed SparseCrossV2 SparseDenseCwiseAdd
    SparseDenseCwiseDiv SparseDenseCwiseMul SparseFillEmptyRows SparseReduceMax
    SparseReduceMaxSparse SparseReduceSum SparseReduceSumSparse SparseReorder SparseReshape
    SparseSegmentMean SparseSegmentMeanWithNumSegments SparseSegmentSqrtN
    SparseSegmentSqrtNWithNumSegments SparseSegmentSum SparseSegmentSumWithNumSegments SparseSlice
    SparseSoftmax SparseSparseMaximum SparseSparseMinimum SparseSplit SparseTensorDenseAdd
    SparseToDense RaggedCountSparseOutput RaggedCross RaggedFillEmptyRows RaggedGather RaggedRange
    RaggedTensorFromVariant RaggedTensorToSparse RaggedTensorToTensor RaggedTensorToVariant
"""
NETWORKS = """
    AvgPool AvgPool3D BatchNormWithGlobalNormalization BiasAdd BiasAddV1 BlockLSTM BlockLSTMV2
    CTCBeamSearchDecoder CTCGreedyDecoder CTCLoss CTCLossV2 Conv Conv2D Conv2DBackpropInput Conv3D
    Conv3DBackpropInput Conv3DBackpropInputV2 CudnnRNN CudnnRNNCanonicalToParams
    CudnnRNNCanonicalToParamsV2 CudnnRNNParamsSize CudnnRNNV2 CudnnRNNV3 DataFormatDimMap
    DataFormatVecPermute DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput Dilation2D Elu
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel
    FractionalAvgPool FractionalMaxPool FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3
    GRUBlockCell InTopK InTopKV2 L2Loss LRN LSTMBlockCell LeakyRelu LogSoftmax MaxPool MaxPool3D
    MaxPoolV2 MaxPoolWithArgmax QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
    QuantizeAndDequantizeV4 Relu Relu6 Selu Softmax SoftmaxCrossEntropyWithLogits Softplus Softsign
    SparseSoftmaxCrossEntropyWithLogits
"""
GRADIENTS = """
    AvgPool3DGrad AvgPoolGrad BiasAddGrad BroadcastGradientArgs Conv2DBackpropFilter
    Conv3DBackpropFilter Conv3DBackpropFilterV2 CudnnRNNBackprop CudnnRNNBackpropV2
    CudnnRNNBackpropV3 DepthwiseConv2dNativeBackpropFilter EluGrad FusedBatchNormGrad
    FusedBatchNormGradV2 FusedBatchNormGradV3 InvGrad LRNGrad LeakyReluGrad MaxPool3DGrad
    MaxPoolGrad MaxPoolGradV2 MirrorPadGrad ReciprocalGrad Relu6Grad ReluGrad ResizeBicubicGrad
    ResizeBilinearGrad ResizeNearestNeighborGrad RsqrtGrad SeluGrad SigmoidGrad SoftplusGrad
    SoftsignGrad SparseSegmentMeanGrad SparseSegmentSqrtNGrad SparseSegmentSumGrad SqrtGrad
    StridedSliceGrad TanhGrad
"""
IMAGES_AND_SOUND = """
    AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation AudioSpectrogram
    CombinedNonMaxSuppression CropAndResize DrawBoundingBoxes DrawBoundingBoxesV2 ExtractGlimpse
    ExtractGlimpseV2 ExtractImagePatches ExtractVolumePatches HSVToRGB ImageProjectiveTransformV2
    ImageProjectiveTransformV3 Mfcc NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3
    NonMaxSuppressionV4 NonMaxSuppressionV5 NonMaxSuppressionWithOverlaps RGBToHSV ResizeArea
    ResizeBicubic ResizeBilinear ResizeNearestNeighbor SampleDistortedBoundingBox
    SampleDistortedBoundingBoxV2 ScaleAndTranslate StatelessSampleDistortedBoundingBox
"""
TEXT = """
    AsString EditDistance Fingerprint ReduceJoin RegexFullMatch RegexReplace StaticRegexFullMatch
    StaticRegexReplace StringFormat StringJoin StringLength StringLower StringNGrams StringSplit
    StringSplitV2 StringStrip StringToHashBucket StringToHashBucketFast StringToHashBucketStrong
    StringToNumber StringUpper Substr UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode
    UnicodeScript UnicodeTranscode UnsortedSegmentJoin
"""
RANDOM = """
    Multinomial NonDeterministicInts ParameterizedTruncatedNormal RandomGamma RandomIndexShuffle
    RandomPoisson RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
    RngReadAndSkip RngSkip StatefulRandomBinomial StatefulStandardNormal StatefulStandardNormalV2
    StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt StatefulUniformInt
    StatelessMultinomial StatelessParameterizedTruncatedNormal StatelessRandomBinomial
    StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2
    StatelessRandomPoisson StatelessRandomUniform StatelessRandomUniformFullInt
    StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
    StatelessRandomUniformV2 StatelessShuffle StatelessTruncatedNormal StatelessTruncatedNormalV2
    TruncatedNormal
"""
CONTROL_FLOW = """
    Assert Case CheckNumerics CheckNumericsV2 ControlTrigger EmptyTensorList Enter Exit FakeParam If
    LoopCond Merge NextIteration NoOp OptionalFromValue OptionalGetValue OptionalHasValue
    OptionalNone PartitionedCall Placeholder PlaceholderV2 PlaceholderWithDefault
    StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch TensorArrayCloseV3
    TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3
    TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 TensorListConcat TensorListConcatLists
    TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather
    TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack TensorListPushBackBatch
    TensorListReserve TensorListResize TensorListScatter TensorListScatterIntoExistingList
    TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack While
"""
VARIABLES_AND_TABLES = """
    AnonymousHashTable AnonymousMutableDenseHashTable AnonymousMutableHashTable
    AnonymousMutableHashTableOfTensors AssignAddVariableOp AssignSubVariableOp AssignVariableOp
    DestroyResourceOp DisableCopyOnRead HashTable HashTableV2 InitializeTable InitializeTableV2
    LookupTableExport LookupTableExportV2 LookupTableFind LookupTableFindV2 LookupTableImport
    LookupTableImportV2 LookupTableInsert LookupTableInsertV2 LookupTableRemoveV2 LookupTableSize
    LookupTableSizeV2 MutableDenseHashTable MutableDenseHashTableV2 MutableHashTable
    MutableHashTableOfTensors MutableHashTableOfTensorsV2 MutableHashTableV2 ReadVariableOp
    ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterDiv ResourceScatterMax
    ResourceScatterMin ResourceScatterMul ResourceScatterNdAdd ResourceScatterNdMax
    ResourceScatterNdMin ResourceScatterNdSub ResourceScatterNdUpdate ResourceScatterSub
    ResourceScatterUpdate ResourceStridedSliceAssign VarHandleOp VarIsInitializedOp VariableShape
"""
_FAMILIES = (
    *(ARITHMETIC, LINEAR_ALGEBRA, ARRAYS, NETWORKS, GRADIENTS, IMAGES_AND_SOUND, TEXT, RANDOM),
    *(CONTROL_FLOW, VARIABLES_AND_TABLES),
)

OPERATIONS = frozenset(name for family in _FAMILIES for name in family.split())
"""What any function of a SavedModel may have."""
SAVER = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"})
"""What saves and restores variables. TensorFlow adds it to each SavedModel, in functions of its
own, which only the graph around them calls."""
