// Runs a file of `yolo-distill export` on iOS, with the package onnxruntime-swift-package-manager.
import CoreGraphics
import Foundation
import OnnxRuntimeBindings  // of the pod onnxruntime-objc: onnxruntime_objc

/// What `best.json` says; onnxruntime's Swift API does not hand out the file's own notes.
private struct About: Decodable {
    struct Tensor: Decodable { let name, type: String; let shape: [Int] }
    let names: [String: String], imgsz: [Int], task: String, end2end: Bool
    let tensors: [String: Tensor], metadata: [String: String]
}

enum DetectorError: Error { case otherTask, noFloats, noPicture }

/// A detector. Open it once and keep it.
final class Detector {
    let names: [String]  // by classId
    private let about: About, form: Form, input: About.Tensor, output: About.Tensor
    private let protos: About.Tensor?  // of segment
    private let environment: ORTEnv, session: ORTSession

    /// `file` is an `.onnx` or `.ort` file, `json` the `.json` that was exported with it; `options` say where it runs.
    init(file: URL, json: URL, options: ORTSessionOptions? = nil) throws {
        about = try JSONDecoder().decode(About.self, from: Data(contentsOf: json))
        names = (0..<about.names.count).map { about.names[String($0)]! }
        (input, output) = (about.tensors["input"]!, about.tensors["output"]!)
        protos = about.tensors["prototypes"]
        switch about.task {
        case "detect": form = Form(end2end: about.end2end)
        case "segment": form = Form(end2end: about.end2end, own: protos!.shape[1])
        case "obb": form = Form(end2end: about.end2end, own: 1, turned: true)
        case "pose":
            let shape = about.metadata["kpt_shape"]!.split { !$0.isNumber }.map { Int($0)! }
            form = Form(end2end: about.end2end, own: shape[0] * shape[1], keypoint: shape[1])
        default: throw DetectorError.otherTask
        }
        if input.type != "float32" { throw DetectorError.noFloats }  // export it with input=floats
        environment = try ORTEnv(loggingLevel: .warning)
        session = try ORTSession(env: environment, modelPath: file.path, sessionOptions: options)
    }

    /// What the picture shows, in its pixels, best first.
    func detect(_ picture: CGImage, _ settings: Settings = Settings()) throws -> [Detection] {
        let (height, width) = (picture.height, picture.width)
        let transform = Transform(
            height: height, width: width, inputHeight: about.imgsz[0], inputWidth: about.imgsz[1])
        var rgba = [UInt8](repeating: 0, count: 4 * height * width)
        try rgba.withUnsafeMutableBytes { bytes in
            guard let canvas = CGContext(
                data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
                space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { throw DetectorError.noPicture }
            canvas.draw(picture, in: CGRect(x: 0, y: 0, width: width, height: height))
        }
        let floats = letterbox(rgba, transform)
        let data = NSMutableData(bytes: floats, length: 4 * floats.count)
        let shape = input.shape.map { NSNumber(value: $0) }
        let tensor = try ORTValue(tensorData: data, elementType: .float, shape: shape)
        let outputs = Set([output, protos].compactMap { $0?.name })
        let answer = try session.run(withInputs: [input.name: tensor], outputNames: outputs, runOptions: nil)
        func numbers(_ of: About.Tensor) throws -> [Float] {
            try withExtendedLifetime(answer) {  // it owns what is read here
                let bytes = Data(referencing: try answer[of.name]!.tensorData())
                return bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            }
        }
        let (raw, rows, columns) = (try numbers(output), output.shape[1], output.shape[2])
        let found = try decode(raw, rows: rows, columns: columns, form: form, settings)
            .map { transform.toPicture($0, form) }
        guard let protos else { return found }
        let (count, tall, wide) = (protos.shape[1], protos.shape[2], protos.shape[3])
        let prototypes = Prototypes(try numbers(protos), count: count, tall: tall, wide: wide, transform)
        return try found.compactMap {
            var one = $0
            (one.mask, one.own) = (try prototypes.mask(one), [])
            return one.mask == nil ? nil : one
        }
    }
}
