// What Detector.swift uses of Apple's CoreGraphics, where there is none; to check types.
import Foundation

public final class CGColorSpace {}
public func CGColorSpaceCreateDeviceRGB() -> CGColorSpace { fatalError() }
public enum CGImageAlphaInfo: UInt32 { case noneSkipLast = 5 }
public final class CGImage {
    public var width: Int { fatalError() }
    public var height: Int { fatalError() }
}
public final class CGContext {
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: UInt32) {}
    public func draw(_ image: CGImage, in rect: CGRect) {}
}
