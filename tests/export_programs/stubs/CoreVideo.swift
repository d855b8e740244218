// What the README's program for Core ML uses of Apple's CoreVideo, where there is none; to check types.
import Foundation

public final class CVPixelBuffer {}
public struct CVPixelBufferLockFlags { public init(rawValue: UInt64) {} }
public let kCVPixelFormatType_32BGRA: UInt32 = 0x4247_5241
public func CVPixelBufferCreate(
    _ allocator: AnyObject?, _ width: Int, _ height: Int, _ format: UInt32, _ attributes: AnyObject?,
    _ made: UnsafeMutablePointer<CVPixelBuffer?>
) -> Int32 { fatalError() }
@discardableResult
public func CVPixelBufferLockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> Int32 { fatalError() }
@discardableResult
public func CVPixelBufferUnlockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> Int32 { fatalError() }
public func CVPixelBufferGetBaseAddress(_ buffer: CVPixelBuffer) -> UnsafeMutableRawPointer? { fatalError() }
public func CVPixelBufferGetBytesPerRow(_ buffer: CVPixelBuffer) -> Int { fatalError() }
