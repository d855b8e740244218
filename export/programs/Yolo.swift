// A picture into a YOLO network's input, and the network's answer into boxes in the picture: letterbox, decoding, NMS.
// Foundation alone; Detector.swift runs the network. The twin of yolo_distill/runtime, number by number.
import Foundation

/// What counts as a detection.
struct Settings {
    var conf: Float = 0.25  // scores have to be above
    var iou = 0.7  // overlap above which the worse of two boxes of a class goes
    var maxDet = 300  // most detections
}

/// An object: its corners in pixels, how sure the network is, and its class.
struct Detection {
    var x1, y1, x2, y2, score: Float
    var classId: Int
}

struct NotFinite: Error {}

/// How a picture lies in the input: as large as fits, centred, an odd row or column of padding below or to the right.
struct Transform {
    let height, width, inputHeight, inputWidth, rows, columns, top, left: Int

    init(height: Int, width: Int, inputHeight: Int, inputWidth: Int) {
        (self.height, self.width, self.inputHeight, self.inputWidth) = (height, width, inputHeight, inputWidth)
        let scale = min(Double(inputHeight) / Double(height), Double(inputWidth) / Double(width))
        rows = max(Int((Double(height) * scale).rounded(.toNearestOrEven)), 1)
        columns = max(Int((Double(width) * scale).rounded(.toNearestOrEven)), 1)
        top = (inputHeight - rows) / 2
        left = (inputWidth - columns) / 2
    }

    /// From pixels of the input to pixels of the picture, cut off at its borders.
    func toPicture(_ found: Detection) -> Detection {
        let across = Float(Double(columns) / Double(width)), down = Float(Double(rows) / Double(height))
        func x(_ value: Float) -> Float { min(max((value - Float(left)) / across, 0), Float(width)) }
        func y(_ value: Float) -> Float { min(max((value - Float(top)) / down, 0), Float(height)) }
        return Detection(
            x1: x(found.x1), y1: y(found.y1), x2: x(found.x2), y2: y(found.y2),
            score: found.score, classId: found.classId)
    }
}

/// For a pixel along a side of the resized picture: two neighbours in the picture, and their weights of 11 bits.
private struct Tap {
    let low, high, first, second: Int
}

private func taps(from: Int, to: Int) -> [Tap] {
    let scale = 1 / (Double(to) / Double(from))
    return (0..<to).map { i in
        let place = Float((Double(i) + 0.5) * scale - 0.5), low = Int(place.rounded(.down)), rest = place - Float(low)
        return Tap(
            low: min(max(low, 0), from - 1), high: min(max(low + 1, 0), from - 1),
            first: Int(((1 - rest) * 2048).rounded(.toNearestOrEven)),
            second: Int((rest * 2048).rounded(.toNearestOrEven)))
    }
}

/// The network's input (3, height, width): red, green, blue, 0 to 1. Resized as OpenCV's INTER_LINEAR, bit for bit.
/// `rgba` has four bytes a pixel, row after row.
func letterbox(_ rgba: UnsafePointer<UInt8>, _ transform: Transform) -> [Float] {
    let area = transform.inputHeight * transform.inputWidth
    var input = [Float](repeating: 114 / 255, count: 3 * area)
    let across = taps(from: transform.width, to: transform.columns)
    let down = taps(from: transform.height, to: transform.rows)
    for y in 0..<transform.rows {
        let above = rgba + 4 * transform.width * down[y].low, below = rgba + 4 * transform.width * down[y].high
        var to = (transform.top + y) * transform.inputWidth + transform.left
        for tap in across {
            for channel in 0..<3 {
                let left = 4 * tap.low + channel, right = 4 * tap.high + channel
                let upper = (Int(above[left]) * tap.first + Int(above[right]) * tap.second) >> 4
                let lower = (Int(below[left]) * tap.first + Int(below[right]) * tap.second) >> 4
                let level = (((down[y].first * upper) >> 16) + ((down[y].second * lower) >> 16) + 2) >> 2
                input[channel * area + to] = Float(level) / 255
            }
            to += 1
        }
    }
    return input
}

/// Intersection over union; nan, which is above nothing, if both boxes are without area.
private func overlap(_ one: Detection, _ other: Detection) -> Float {
    if one.classId != other.classId { return 0 }
    let shift = Float(one.classId) * 7680  // Python moves classes apart, and rounds accordingly
    let (x1, y1, x2, y2) = (one.x1 + shift, one.y1 + shift, one.x2 + shift, one.y2 + shift)
    let (a1, b1, a2, b2) = (other.x1 + shift, other.y1 + shift, other.x2 + shift, other.y2 + shift)
    let shared = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
    let areas: Float = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1)
    return shared / (areas - shared)
}

/// Places of the boxes that stay, best first: a box goes if it overlaps a better one of its class that stays.
func nms(_ boxes: [Detection], _ settings: Settings) -> [Int] {
    let order = boxes.indices.sorted { (-boxes[$0].score, $0) < (-boxes[$1].score, $1) }
    var kept: [Int] = []
    for next in order.prefix(30_000) {
        if kept.count >= settings.maxDet { break }
        if !kept.contains(where: { Double(overlap(boxes[$0], boxes[next])) > settings.iou }) { kept.append(next) }
    }
    return kept
}

/// What the answer holds, best first, in pixels of the input: dense (4 + classes, A), or end to end (N, 6).
func decode(_ raw: [Float], rows: Int, columns: Int, end2end: Bool, _ settings: Settings) throws -> [Detection] {
    if !raw.allSatisfy(\.isFinite) { throw NotFinite() }
    if end2end {
        let sure = (0..<rows).map { 6 * $0 }.filter { raw[$0 + 4] > settings.conf }.prefix(settings.maxDet)
        return sure.map {
            Detection(
                x1: raw[$0], y1: raw[$0 + 1], x2: raw[$0 + 2], y2: raw[$0 + 3],
                score: raw[$0 + 4], classId: Int(raw[$0 + 5]))
        }
    }
    var best = [Int](repeating: 4, count: columns)  // row of each column's highest score
    for row in stride(from: 5, to: rows, by: 1) {
        for i in 0..<columns where raw[row * columns + i] > raw[best[i] * columns + i] { best[i] = row }
    }
    let found = (0..<columns).filter { raw[best[$0] * columns + $0] > settings.conf }.map { i in
        let (x, y, wide, tall) = (raw[i], raw[columns + i], raw[2 * columns + i] / 2, raw[3 * columns + i] / 2)
        return Detection(
            x1: x - wide, y1: y - tall, x2: x + wide, y2: y + tall,
            score: raw[best[i] * columns + i], classId: best[i] - 4)
    }
    return nms(found, settings).map { found[$0] }
}
