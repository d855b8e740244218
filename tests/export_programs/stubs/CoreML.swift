// What the README's program uses of Apple's CoreML, where there is none; to check types.
import CoreVideo
import Foundation

public final class MLModel {
    public init(contentsOf url: URL) throws {}
    public func prediction(from input: MLFeatureProvider) throws -> MLFeatureProvider { fatalError() }
}
public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for name: String) -> MLFeatureValue?
}
public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    public init(dictionary: [String: Any]) throws {}
    public var featureNames: Set<String> { fatalError() }
    public func featureValue(for name: String) -> MLFeatureValue? { fatalError() }
}
public final class MLFeatureValue {
    public init(pixelBuffer: CVPixelBuffer) {}
    public var multiArrayValue: MLMultiArray? { fatalError() }
}
public final class MLMultiArray {}
public struct MLShapedArray<Scalar> {
    public init(converting: MLMultiArray) { fatalError() }
    public var shape: [Int] { fatalError() }
    public var scalars: [Scalar] { fatalError() }
}
