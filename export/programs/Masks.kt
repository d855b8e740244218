// The masks of a segment network's objects, from its prototypes. The twin of yolo_distill/runtime/masks.py.
package yolo

import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min

/** For a row or column of the picture: the first of the prototypes' that counts, and the weights of three from there. */
private class Window(val first: Int, val weights: FloatArray) {
    fun weigh(numbers: FloatArray, at: Int, step: Int = 1) =
        weights[0] * numbers[at] + weights[1] * numbers[at + step] + weights[2] * numbers[at + 2 * step]
}

/** Between which two of so many given places a new one lies: bilinear, the middles of pixels on each other. */
private class Pair(given: Int, length: Int, i: Int) {
    private val place = max((i + 0.5) * (given.toDouble() / length) - 0.5, 0.0)
    val before = place.toInt()
    val behind = min(before + 1, given - 1)
    val share = place - before // of the one behind
}

private fun windows(protos: Int, factor: Int, start: Int, inside: Int, picture: Int) = Array(picture) {
    val fine = Pair(inside, picture, it)
    val ends = listOf(fine.before to 1 - fine.share, fine.behind to fine.share)
        .map { (place, weight) -> Pair(protos, factor * protos, start + place) to weight }
    val first = ends[0].first.before
    val weights = FloatArray(3)
    for ((end, weight) in ends) {
        weights[end.before - first] += (weight * (1 - end.share)).toFloat()
        weights[end.behind - first] += (weight * end.share).toFloat()
    }
    Window(first, weights)
}

/** Prototypes (count, tall, wide), and how the picture lies in the input. */
class Prototypes(
    private val data: FloatArray, private val count: Int, private val tall: Int, private val wide: Int,
    transform: Transform
) {
    private val down: Array<Window>
    private val across: Array<Window>

    init {
        fun inside(factor: Int) = Transform(transform.height, transform.width, factor * tall, factor * wide)
        // Python enlarges prototypes just so far that the padding can be cut off at whole numbers, and then once more.
        val padding = (4 * tall - inside(4).rows) or (4 * wide - inside(4).columns)
        val factor = if (padding % 8 == 0) 1 else if (padding % 4 == 0) 2 else 4
        val lies = inside(factor)
        down = windows(tall, factor, lies.top, lies.rows, transform.height)
        across = windows(wide, factor, lies.left, lies.columns, transform.width)
    }

    /** The mask of an object in pixels of the picture, whose own numbers are the weights; null if no pixel shows it. */
    fun mask(found: Detection): Mask? {
        // A pixel is inside if its number is: the first at or behind the left side, the last before the right one.
        val left = ceil(found.x1).toInt()
        val top = ceil(found.y1).toInt()
        val width = min(ceil(found.x2).toInt(), across.size) - left
        val height = min(ceil(found.y2).toInt(), down.size) - top
        if (width <= 0 || height <= 0) return null
        val first = down[top].first
        val rows = min(down[top + height - 1].first + 3, tall) - first
        val sum = FloatArray(rows * wide + 2) // what lies behind the last number weighs nothing
        for (proto in 0 until count) {
            val weight = found.own[proto]
            val from = (proto * tall + first) * wide
            for (i in 0 until rows * wide) sum[i] += weight * data[from + i]
        }
        check(sum.all { it.isFinite() }) { "nan or infinity in the network's masks" }
        val between = FloatArray((rows + 2) * width)
        for (row in 0 until rows) for (x in 0 until width) {
            val window = across[left + x]
            between[row * width + x] = window.weigh(sum, row * wide + window.first)
        }
        val bits = BooleanArray(height * width) {
            val window = down[top + it / width]
            window.weigh(between, (window.first - first) * width + it % width, width) > 0
        }
        return if (bits.any { it }) Mask(top, left, height, width, bits) else null
    }
}
