// A picture into a YOLO network's input, and its answer into what the picture shows: letterbox, decoding, NMS.
// Foundation alone; Masks.swift is for masks, and Detector.swift runs the network. The twin of yolo_distill/runtime,
// number by number.
import Foundation

/// What counts as a detection.
struct Settings {
    var conf: Float = 0.25  // scores have to be above
    var iou = 0.7  // overlap above which the worse of two boxes of a class goes
    var maxDet = 300  // most detections
}

/// What the network's answer looks like.
struct Form {
    var end2end = false  // final, (N, 6 + own), or dense, (4 + classes + own, A)
    var own = 0  // numbers that the task adds to a box
    var keypoint = 0  // of pose: numbers of a keypoint, x, y and perhaps how sure it is
    var turned = false  // of obb: whether the number more is an angle
}

/// The part of the picture that a box shows; `bits`, row after row, are true where the object is.
struct Mask {
    var top, left, height, width: Int
    var bits: [Bool]
}

/// An object: its corners in pixels, how sure the network is, and its class.
struct Detection {
    var x1, y1, x2, y2, score: Float
    var classId: Int
    /// Of pose the keypoints; of obb centre x, centre y, width, height, and angle in radians, while the corners are
    /// those of the upright box around it.
    var own: [Float] = []
    var mask: Mask? = nil  // of segment
}

/// The corners of a turned box (`own`): x and y of each.
func corners(_ box: [Float]) -> [(x: Float, y: Float)] {
    let (half, other) = (box[2] / 2, box[3] / 2), (cosine, sine) = (cos(box[4]), sin(box[4]))
    let ends: [(Float, Float)] = [(half, other), (half, -other), (-half, -other), (-half, other)]
    return ends.map { (box[0] + $0 * cosine - $1 * sine, box[1] + $0 * sine + $1 * cosine) }
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
    func toPicture(_ found: Detection, _ form: Form = Form()) -> Detection {
        let across = Float(Double(columns) / Double(width)), down = Float(Double(rows) / Double(height))
        func inWidth(_ value: Float) -> Float { min(max(value, 0), Float(width)) }
        func inHeight(_ value: Float) -> Float { min(max(value, 0), Float(height)) }
        func x(_ value: Float) -> Float { inWidth((value - Float(left)) / across) }
        func y(_ value: Float) -> Float { inHeight((value - Float(top)) / down) }
        var (moved, own) = (found, found.own)
        if form.turned {  // it may leave the picture
            let middle = [(own[0] - Float(left)) / across, (own[1] - Float(top)) / down]
            own = middle + [own[2] / across, own[3] / down, own[4]]
            let (xs, ys) = (corners(own).map(\.x), corners(own).map(\.y))
            (moved.x1, moved.x2) = (inWidth(xs.min()!), inWidth(xs.max()!))
            (moved.y1, moved.y2) = (inHeight(ys.min()!), inHeight(ys.max()!))
        } else {
            (moved.x1, moved.y1, moved.x2, moved.y2) = (x(found.x1), y(found.y1), x(found.x2), y(found.y2))
            for i in stride(from: 0, to: form.keypoint > 0 ? own.count : 0, by: max(form.keypoint, 1)) {
                (own[i], own[i + 1]) = (x(own[i]), y(own[i + 1]))
            }
        }
        moved.own = own
        return moved
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

/// A turned box taken for a uniform distribution: its middle and its covariance.
private struct Normal {
    let x, y, a, b, c: Double

    init(_ found: Detection) {
        let shift = Float(found.classId) * 7680
        (x, y) = (Double(found.own[0] + shift), Double(found.own[1] + shift))
        let (wide, tall, angle) = (Double(found.own[2]), Double(found.own[3]), Double(found.own[4]))
        let (along, across) = (wide * wide / 12, tall * tall / 12), (cosine, sine) = (cos(angle), sin(angle))
        a = along * cosine * cosine + across * sine * sine
        b = along * sine * sine + across * cosine * cosine
        c = (along - across) * cosine * sine
    }

    /// 1 - the Hellinger distance of two such distributions, https://arxiv.org/abs/2106.06072.
    func overlap(_ other: Normal) -> Double {
        let (a2, b2, c2) = (a + other.a, b + other.b, c + other.c), (dx, dy) = (other.x - x, y - other.y)
        let area = a2 * b2 - c2 * c2
        let own = max(a * b - c * c, 0) * max(other.a * other.b - other.c * other.c, 0)
        let apart = (a2 * dy * dy + b2 * dx * dx + 2 * c2 * dx * dy) / (area + 1e-7) / 4
        let distance = apart + log(area / (4 * own.squareRoot() + 1e-7) + 1e-7) / 2
        return 1 - (1 - exp(-min(max(distance, 1e-7), 100)) + 1e-7).squareRoot()
    }
}

/// Places of the boxes that stay, best first: a box goes if it overlaps a better one of its class that stays; a turned
/// one if it overlaps any better one.
func nms(_ boxes: [Detection], _ settings: Settings, turned: Bool = false) -> [Int] {
    let normals = turned ? boxes.map(Normal.init) : []
    func covers(_ better: Int, _ next: Int) -> Bool {
        if turned { return normals[better].overlap(normals[next]) > settings.iou }
        return Double(overlap(boxes[better], boxes[next])) > settings.iou
    }
    let order = boxes.indices.sorted { (-boxes[$0].score, $0) < (-boxes[$1].score, $1) }
    var kept: [Int] = [], seen: [Int] = []
    for next in order.prefix(30_000) {
        if kept.count >= settings.maxDet { break }
        if !(turned ? seen : kept).contains(where: { covers($0, next) }) { kept.append(next) }
        seen.append(next)
    }
    return kept
}

/// What the answer holds, best first, in pixels of the input: dense (4 + classes + own, A), or final (N, 6 + own).
func decode(_ raw: [Float], rows: Int, columns: Int, form: Form, _ settings: Settings) throws -> [Detection] {
    if !raw.allSatisfy(\.isFinite) { throw NotFinite() }
    if form.end2end {
        let sure = (0..<rows).map { columns * $0 }.filter { raw[$0 + 4] > settings.conf }.prefix(settings.maxDet)
        return sure.map { i in
            let box = form.turned ? Array(raw[i..<i + 4]) : []
            return Detection(
                x1: raw[i], y1: raw[i + 1], x2: raw[i + 2], y2: raw[i + 3],
                score: raw[i + 4], classId: Int(raw[i + 5]), own: box + raw[i + 6..<i + columns])
        }
    }
    var best = [Int](repeating: 4, count: columns)  // row of each column's highest score
    for row in stride(from: 5, to: rows - form.own, by: 1) {
        for i in 0..<columns where raw[row * columns + i] > raw[best[i] * columns + i] { best[i] = row }
    }
    let found = (0..<columns).filter { raw[best[$0] * columns + $0] > settings.conf }.map { i in
        let (x, y, wide, tall) = (raw[i], raw[columns + i], raw[2 * columns + i] / 2, raw[3 * columns + i] / 2)
        let box = form.turned ? [x, y, 2 * wide, 2 * tall] : []
        return Detection(
            x1: x - wide, y1: y - tall, x2: x + wide, y2: y + tall,
            score: raw[best[i] * columns + i], classId: best[i] - 4,
            own: box + (rows - form.own..<rows).map { raw[$0 * columns + i] })
    }
    return nms(found, settings, turned: form.turned).map { found[$0] }
}
