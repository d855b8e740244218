// What Detector.swift uses of onnxruntime's Swift package, as its headers have it; to check types.
import Foundation

public enum ORTLoggingLevel { case warning }
public enum ORTTensorElementDataType { case float }
public final class ORTEnv { public init(loggingLevel: ORTLoggingLevel) throws {} }
public final class ORTSessionOptions { public init() throws {} }
public final class ORTRunOptions {}
public final class ORTValue {
    public init(tensorData: NSMutableData, elementType: ORTTensorElementDataType, shape: [NSNumber]) throws {}
    public func tensorData() throws -> NSMutableData { fatalError() }
}
public final class ORTSession {
    public init(env: ORTEnv, modelPath: String, sessionOptions: ORTSessionOptions?) throws {}
    public func run(
        withInputs inputs: [String: ORTValue], outputNames: Set<String>, runOptions: ORTRunOptions?
    ) throws -> [String: ORTValue] { fatalError() }
}
