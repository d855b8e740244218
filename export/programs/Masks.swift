// The masks of a segment network's objects, from its prototypes. The twin of yolo_distill/runtime/masks.py.
import Foundation

/// For a row or column of the picture: the first of the prototypes' that counts, and the weights of three from there.
private struct Window {
    let first: Int
    var one: Float = 0, two: Float = 0, three: Float = 0

    func weigh(_ numbers: UnsafeBufferPointer<Float>, _ at: Int, step: Int = 1) -> Float {
        one * numbers[at] + two * numbers[at + step] + three * numbers[at + 2 * step]
    }
}

/// Between which two of so many given places a new one lies: bilinear, the middles of pixels on each other.
private func pair(_ given: Int, _ length: Int, _ i: Int) -> (before: Int, behind: Int, share: Double) {
    let place = max((Double(i) + 0.5) * (Double(given) / Double(length)) - 0.5, 0)
    return (Int(place), min(Int(place) + 1, given - 1), place - Double(Int(place)))  // the share of the one behind
}

private func windows(_ protos: Int, _ factor: Int, start: Int, inside: Int, picture: Int) -> [Window] {
    (0..<picture).map { i in
        let fine = pair(inside, picture, i)
        let ends = [fine.before, fine.behind].map { pair(protos, factor * protos, start + $0) }
        var weights: [Float] = [0, 0, 0]
        for (end, weight) in zip(ends, [1 - fine.share, fine.share]) {
            weights[end.before - ends[0].before] += Float(weight * (1 - end.share))
            weights[end.behind - ends[0].before] += Float(weight * end.share)
        }
        return Window(first: ends[0].before, one: weights[0], two: weights[1], three: weights[2])
    }
}

/// Prototypes (count, tall, wide), and how the picture lies in the input.
struct Prototypes {
    private let data: [Float], count, tall, wide: Int, down, across: [Window]

    init(_ data: [Float], count: Int, tall: Int, wide: Int, _ transform: Transform) {
        (self.data, self.count, self.tall, self.wide) = (data, count, tall, wide)
        func inside(_ factor: Int) -> Transform {
            Transform(
                height: transform.height, width: transform.width, inputHeight: factor * tall,
                inputWidth: factor * wide)
        }
        // Python enlarges prototypes just so far that the padding can be cut off at whole numbers, and then once more.
        let padding = (4 * tall - inside(4).rows) | (4 * wide - inside(4).columns)
        let factor = padding % 8 == 0 ? 1 : padding % 4 == 0 ? 2 : 4
        let lies = inside(factor)
        down = windows(tall, factor, start: lies.top, inside: lies.rows, picture: transform.height)
        across = windows(wide, factor, start: lies.left, inside: lies.columns, picture: transform.width)
    }

    /// The mask of an object in pixels of the picture, whose own numbers are the weights; nil if no pixel shows it.
    func mask(_ found: Detection) throws -> Mask? {
        // A pixel is inside if its number is: the first at or behind the left side, the last before the right one.
        let left = Int(found.x1.rounded(.up)), top = Int(found.y1.rounded(.up))
        let width = min(Int(found.x2.rounded(.up)), across.count) - left
        let height = min(Int(found.y2.rounded(.up)), down.count) - top
        if width <= 0 || height <= 0 { return nil }
        let first = down[top].first, rows = min(down[top + height - 1].first + 3, tall) - first
        var sum = [Float](repeating: 0, count: rows * wide + 2)  // what lies behind the last number weighs nothing
        data.withUnsafeBufferPointer { data in
            for (proto, weight) in found.own.enumerated() {
                let from = (proto * tall + first) * wide
                for i in 0..<rows * wide { sum[i] += weight * data[from + i] }
            }
        }
        if !sum.allSatisfy(\.isFinite) { throw NotFinite() }
        var between = [Float](repeating: 0, count: (rows + 2) * width)
        var mask = Mask(
            top: top, left: left, height: height, width: width, bits: [Bool](repeating: false, count: height * width))
        sum.withUnsafeBufferPointer { sum in
            for row in 0..<rows {
                for x in 0..<width {
                    let window = across[left + x]
                    between[row * width + x] = window.weigh(sum, row * wide + window.first)
                }
            }
        }
        between.withUnsafeBufferPointer { between in
            for y in 0..<height {
                let window = down[top + y], from = (window.first - first) * width
                for x in 0..<width { mask.bits[y * width + x] = window.weigh(between, from + x, step: width) > 0 }
            }
        }
        return mask.bits.contains(true) ? mask : nil
    }
}
