// Answers what test_export_programs.py asks on standard input, a line each, with export/programs/Yolo.swift and
// Masks.swift.
import Foundation

func said(_ one: Detection) -> String {
    let own = one.own.map { " \($0)" }.joined()
    return "\(one.x1) \(one.y1) \(one.x2) \(one.y2) \(one.score) \(one.classId)" + own
}

func boxes(_ numbers: [Float]) -> [Detection] {
    stride(from: 0, to: numbers.count, by: 6).map {
        Detection(
            x1: numbers[$0], y1: numbers[$0 + 1], x2: numbers[$0 + 2], y2: numbers[$0 + 3], score: numbers[$0 + 4],
            classId: Int(numbers[$0 + 5]))
    }
}

func answer(_ what: Substring, _ words: [Substring]) throws -> String {
    func whole(_ place: Int) -> Int { Int(words[place])! }
    func floats(_ from: Int) -> [Float] { words.dropFirst(from).map { Float($0)! } }
    func transform() -> Transform {
        Transform(height: whole(0), width: whole(1), inputHeight: whole(2), inputWidth: whole(3))
    }
    switch what {
    case "letterbox":
        let lies = transform()
        var rgba = [UInt8](repeating: 255, count: 4 * lies.height * lies.width)
        for (i, word) in words.dropFirst(4).enumerated() { rgba[4 * (i / 3) + i % 3] = UInt8(word)! }
        let input = letterbox(rgba, lies).map(\.description).joined(separator: " ")
        return "\(lies.rows) \(lies.columns) \(lies.top) \(lies.left) \(input)"
    case "back":
        return boxes(floats(4)).map { said(transform().toPicture($0)) }.joined(separator: " ")
    case "decode":
        let settings = Settings(conf: Float(words[0])!, iou: Double(words[1])!, maxDet: whole(2))
        do {
            let form = Form(end2end: whole(3) != 0)
            let found = try decode(floats(6), rows: whole(4), columns: whole(5), form: form, settings)
            return found.map(said).joined(separator: " ")
        } catch is NotFinite {
            return "refused"
        }
    case "task":
        let settings = Settings(conf: Float(words[4])!, iou: Double(words[5])!, maxDet: whole(6))
        let form = Form(end2end: whole(7) != 0, own: whole(8), keypoint: whole(9), turned: whole(10) != 0)
        let found = try decode(floats(13), rows: whole(11), columns: whole(12), form: form, settings)
        return found.map { said(transform().toPicture($0, form)) }.joined(separator: " ")
    case "mask":
        let (values, count) = (floats(7), whole(4)), protos = Array(values[(4 + count)...])
        let found = Detection(
            x1: values[0], y1: values[1], x2: values[2], y2: values[3], score: 1, classId: 0,
            own: Array(values[4..<4 + count]))
        let prototypes = Prototypes(protos, count: count, tall: whole(5), wide: whole(6), transform())
        guard let mask = try prototypes.mask(found) else { return "" }
        let sides = "\(mask.top) \(mask.left) \(mask.height) \(mask.width) "
        return sides + mask.bits.map { $0 ? "1" : "0" }.joined(separator: " ")
    case "nms":
        let settings = Settings(iou: Double(words[0])!, maxDet: whole(1))
        return nms(boxes(floats(2)), settings).map(\.description).joined(separator: " ")
    default:
        fatalError(String(what))
    }
}

@main struct Golden {
    static func main() throws {
        while let line = readLine() {
            let words = line.split(separator: " ")
            print(try answer(words[0], Array(words.dropFirst())))
        }
    }
}
