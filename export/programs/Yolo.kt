// A picture into a YOLO network's input, and the network's answer into boxes in the picture: letterbox, decoding, NMS.
// Kotlin's standard library alone; Detector.kt runs the network. The twin of yolo_distill/runtime, number by number.
package yolo

import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/**
 * What counts as a detection.
 *
 * @property conf scores have to be above.
 * @property iou overlap above which the worse of two boxes of a class goes.
 * @property maxDet most detections.
 */
class Settings(val conf: Float = 0.25f, val iou: Double = 0.7, val maxDet: Int = 300)

/** An object: its corners in pixels, how sure the network is, and its class. */
data class Detection(
    val x1: Float, val y1: Float, val x2: Float, val y2: Float, val score: Float, val classId: Int
)

/** How a picture lies in the input: as large as fits, centred, an odd row or column of padding below or right. */
class Transform(val height: Int, val width: Int, val inputHeight: Int, val inputWidth: Int) {
    private val scale = min(inputHeight.toDouble() / height, inputWidth.toDouble() / width)
    val rows = max(Math.rint(height * scale).toInt(), 1) // halves to the even number
    val columns = max(Math.rint(width * scale).toInt(), 1)
    val top = (inputHeight - rows) / 2
    val left = (inputWidth - columns) / 2

    /** From pixels of the input to pixels of the picture, cut off at its borders. */
    fun toPicture(found: Detection): Detection {
        val across = (columns.toDouble() / width).toFloat()
        val down = (rows.toDouble() / height).toFloat()
        fun x(value: Float) = ((value - left) / across).coerceIn(0f, width.toFloat())
        fun y(value: Float) = ((value - top) / down).coerceIn(0f, height.toFloat())
        return found.copy(x1 = x(found.x1), y1 = y(found.y1), x2 = x(found.x2), y2 = y(found.y2))
    }
}

/** For a pixel along a side of the resized picture: two neighbours in the picture, and their weights of 11 bits. */
private class Tap(val low: Int, val high: Int, val first: Int, val second: Int)

private fun taps(from: Int, to: Int): Array<Tap> {
    val scale = 1 / (to.toDouble() / from)
    return Array(to) {
        val place = ((it + 0.5) * scale - 0.5).toFloat()
        val low = floor(place)
        val rest = place - low
        val first = Math.rint((1 - rest) * 2048.0).toInt()
        val second = Math.rint(rest * 2048.0).toInt()
        Tap(low.toInt().coerceIn(0, from - 1), (low.toInt() + 1).coerceIn(0, from - 1), first, second)
    }
}

private fun mix(one: Int, other: Int, tap: Tap, shift: Int) =
    ((one shr shift and 255) * tap.first + (other shr shift and 255) * tap.second) shr 4

/**
 * The network's input (3, height, width): red, green, blue, 0 to 1. Resized as OpenCV's INTER_LINEAR does, bit for bit.
 *
 * @param argb the picture's pixels, row after row, as `Bitmap.getPixels` gives them.
 */
fun letterbox(argb: IntArray, transform: Transform): FloatArray {
    val area = transform.inputHeight * transform.inputWidth
    val input = FloatArray(3 * area) { 114 / 255f }
    val across = taps(transform.width, transform.columns)
    val down = taps(transform.height, transform.rows)
    for (y in 0 until transform.rows) {
        val above = transform.width * down[y].low
        val below = transform.width * down[y].high
        var to = (transform.top + y) * transform.inputWidth + transform.left
        for (tap in across) {
            for (channel in 0..2) {
                val shift = 16 - 8 * channel
                val upper = mix(argb[above + tap.low], argb[above + tap.high], tap, shift)
                val lower = mix(argb[below + tap.low], argb[below + tap.high], tap, shift)
                val level = ((down[y].first * upper shr 16) + (down[y].second * lower shr 16) + 2) shr 2
                input[channel * area + to] = level / 255f
            }
            to++
        }
    }
    return input
}

/** Intersection over union; nan, which is above nothing, if both boxes are without area. */
private fun overlap(one: Detection, other: Detection): Float {
    if (one.classId != other.classId) return 0f
    val shift = one.classId.toFloat() * 7680 // Python moves classes apart, and rounds accordingly
    val x1 = one.x1 + shift
    val y1 = one.y1 + shift
    val x2 = one.x2 + shift
    val y2 = one.y2 + shift
    val a1 = other.x1 + shift
    val b1 = other.y1 + shift
    val a2 = other.x2 + shift
    val b2 = other.y2 + shift
    val shared = max(min(x2, a2) - max(x1, a1), 0f) * max(min(y2, b2) - max(y1, b1), 0f)
    return shared / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared)
}

/** Places of the boxes that stay, best first: a box goes if it overlaps a better one of its class that stays. */
fun nms(boxes: List<Detection>, settings: Settings): List<Int> {
    val kept = ArrayList<Int>()
    for (next in boxes.indices.sortedByDescending { boxes[it].score }.take(30_000)) {
        if (kept.size >= settings.maxDet) break
        if (kept.none { overlap(boxes[it], boxes[next]) > settings.iou }) kept += next
    }
    return kept
}

/** What the answer holds, best first, in pixels of the input: dense (4 + classes, A), or end to end (N, 6). */
fun decode(raw: FloatArray, rows: Int, columns: Int, end2end: Boolean, settings: Settings): List<Detection> {
    check(raw.all { !it.isNaN() && !it.isInfinite() }) { "nan or infinity in the network's answer" }
    if (end2end) {
        return (0 until rows).map { 6 * it }.filter { raw[it + 4] > settings.conf }.take(settings.maxDet)
            .map { Detection(raw[it], raw[it + 1], raw[it + 2], raw[it + 3], raw[it + 4], raw[it + 5].toInt()) }
    }
    val best = IntArray(columns) { 4 } // row of each column's highest score
    for (row in 5 until rows) {
        for (i in 0 until columns) if (raw[row * columns + i] > raw[best[i] * columns + i]) best[i] = row
    }
    val found = (0 until columns).filter { raw[best[it] * columns + it] > settings.conf }.map {
        val x = raw[it]
        val y = raw[columns + it]
        val wide = raw[2 * columns + it] / 2
        val tall = raw[3 * columns + it] / 2
        Detection(x - wide, y - tall, x + wide, y + tall, raw[best[it] * columns + it], best[it] - 4)
    }
    return nms(found, settings).map { found[it] }
}

/** Class names of the file's note `names`, a dictionary as Python writes it: {0: 'disc', 1: "it's"}. */
fun readNames(note: String): List<String> =
    Regex("""(['"])((?:\\.|(?!\1).)*)\1""").findAll(note)
        .map { it.groupValues[2].replace(Regex("""\\(.)"""), "$1") }.toList()
