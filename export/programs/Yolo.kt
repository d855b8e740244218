// A picture into a YOLO network's input, and its answer into what the picture shows: letterbox, decoding, NMS.
// Kotlin's standard library alone; Masks.kt is for masks, and Detector.kt runs the network. The twin of
// yolo_distill/runtime, number by number.
package yolo

import kotlin.math.cos
import kotlin.math.exp
import kotlin.math.floor
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sin
import kotlin.math.sqrt

/**
 * What counts as a detection.
 *
 * @property conf scores have to be above.
 * @property iou overlap above which the worse of two boxes of a class goes.
 * @property maxDet most detections.
 */
class Settings(val conf: Float = 0.25f, val iou: Double = 0.7, val maxDet: Int = 300)

/**
 * What the network's answer looks like.
 *
 * @property end2end whether it is final, (N, 6 + own), or dense, (4 + classes + own, A).
 * @property own numbers that the task adds to a box.
 * @property keypoint of pose: numbers of a keypoint, x, y and perhaps how sure it is.
 * @property turned of obb: whether the number more is an angle.
 */
class Form(val end2end: Boolean = false, val own: Int = 0, val keypoint: Int = 0, val turned: Boolean = false)

/** The part of the picture that a box shows; `bits`, row after row, are true where the object is. */
class Mask(val top: Int, val left: Int, val height: Int, val width: Int, val bits: BooleanArray)

/**
 * An object: its corners in pixels, how sure the network is, and its class.
 *
 * @property own of pose the keypoints; of obb centre x, centre y, width, height, and angle in radians, while the
 *     corners are those of the upright box around it.
 * @property mask of segment.
 */
data class Detection(
    val x1: Float, val y1: Float, val x2: Float, val y2: Float, val score: Float, val classId: Int,
    val own: List<Float> = emptyList(), val mask: Mask? = null
)

/** The corners of a turned box (`own`): x and y of each. */
fun corners(box: List<Float>): List<Float> {
    val (x, y, wide, tall, angle) = box
    val alongX = wide / 2 * cos(angle)
    val alongY = wide / 2 * sin(angle)
    val acrossX = -tall / 2 * sin(angle)
    val acrossY = tall / 2 * cos(angle)
    return listOf(1 to 1, 1 to -1, -1 to -1, -1 to 1).flatMap { (along, across) ->
        listOf(x + along * alongX + across * acrossX, y + along * alongY + across * acrossY)
    }
}

/** How a picture lies in the input: as large as fits, centred, an odd row or column of padding below or right. */
class Transform(val height: Int, val width: Int, val inputHeight: Int, val inputWidth: Int) {
    private val scale = min(inputHeight.toDouble() / height, inputWidth.toDouble() / width)
    val rows = max(Math.rint(height * scale).toInt(), 1) // halves to the even number
    val columns = max(Math.rint(width * scale).toInt(), 1)
    val top = (inputHeight - rows) / 2
    val left = (inputWidth - columns) / 2

    /** From pixels of the input to pixels of the picture, cut off at its borders. */
    fun toPicture(found: Detection, form: Form = Form()): Detection {
        val across = (columns.toDouble() / width).toFloat()
        val down = (rows.toDouble() / height).toFloat()
        fun inWidth(value: Float) = value.coerceIn(0f, width.toFloat())
        fun inHeight(value: Float) = value.coerceIn(0f, height.toFloat())
        fun x(value: Float) = inWidth((value - left) / across)
        fun y(value: Float) = inHeight((value - top) / down)
        if (form.turned) { // it may leave the picture
            val (x, y, wide, tall, angle) = found.own
            val box = listOf((x - left) / across, (y - top) / down, wide / across, tall / down, angle)
            val (horizontal, vertical) = corners(box).withIndex().partition { it.index % 2 == 0 }
                .toList().map { side -> side.map { it.value } }
            return found.copy(
                x1 = inWidth(horizontal.min()), y1 = inHeight(vertical.min()),
                x2 = inWidth(horizontal.max()), y2 = inHeight(vertical.max()), own = box
            )
        }
        val own = found.own.mapIndexed { i, value ->
            if (form.keypoint == 0) value else when (i % form.keypoint) { 0 -> x(value); 1 -> y(value); else -> value }
        }
        return found.copy(x1 = x(found.x1), y1 = y(found.y1), x2 = x(found.x2), y2 = y(found.y2), own = own)
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

/** A turned box taken for a uniform distribution: its middle and its covariance. */
private class Normal(found: Detection) {
    private val shift = found.classId.toFloat() * 7680
    private val x = (found.own[0] + shift).toDouble()
    private val y = (found.own[1] + shift).toDouble()
    private val along = found.own[2].toDouble() * found.own[2] / 12
    private val across = found.own[3].toDouble() * found.own[3] / 12
    private val cos = cos(found.own[4].toDouble())
    private val sin = sin(found.own[4].toDouble())
    private val a = along * cos * cos + across * sin * sin
    private val b = along * sin * sin + across * cos * cos
    private val c = (along - across) * cos * sin

    /** 1 - the Hellinger distance of two such distributions, https://arxiv.org/abs/2106.06072. */
    fun overlap(other: Normal): Double {
        val (a2, b2, c2) = listOf(a + other.a, b + other.b, c + other.c)
        val dx = other.x - x
        val dy = y - other.y
        val area = a2 * b2 - c2 * c2
        val own = max(a * b - c * c, 0.0) * max(other.a * other.b - other.c * other.c, 0.0)
        val distance = (a2 * dy * dy + b2 * dx * dx + 2 * c2 * dx * dy) / (area + 1e-7) / 4 +
            ln(area / (4 * sqrt(own) + 1e-7) + 1e-7) / 2
        return 1 - sqrt(1 - exp(-distance.coerceIn(1e-7, 100.0)) + 1e-7)
    }
}

/**
 * Places of the boxes that stay, best first: a box goes if it overlaps a better one of its class that stays; a turned
 * one if it overlaps any better one.
 */
fun nms(boxes: List<Detection>, settings: Settings, turned: Boolean = false): List<Int> {
    val kept = ArrayList<Int>()
    val seen = ArrayList<Int>()
    val normals = if (turned) boxes.map { Normal(it) } else emptyList()
    for (next in boxes.indices.sortedByDescending { boxes[it].score }.take(30_000)) {
        if (kept.size >= settings.maxDet) break
        val covered = if (turned) seen.any { normals[it].overlap(normals[next]) > settings.iou }
        else kept.any { overlap(boxes[it], boxes[next]) > settings.iou }
        if (!covered) kept += next
        seen += next
    }
    return kept
}

/** What the answer holds, best first, in pixels of the input: dense (4 + classes + own, A), or final (N, 6 + own). */
fun decode(raw: FloatArray, rows: Int, columns: Int, form: Form, settings: Settings): List<Detection> {
    check(raw.all { !it.isNaN() && !it.isInfinite() }) { "nan or infinity in the network's answer" }
    fun turned(box: List<Float>, own: List<Float>) = if (form.turned) box + own else own
    if (form.end2end) {
        val sure = (0 until rows).map { columns * it }.filter { raw[it + 4] > settings.conf }.take(settings.maxDet)
        return sure.map {
            val row = raw.slice(it until it + columns)
            val own = turned(row.take(4), row.drop(6))
            Detection(row[0], row[1], row[2], row[3], row[4], row[5].toInt(), own)
        }
    }
    val best = IntArray(columns) { 4 } // row of each column's highest score
    for (row in 5 until rows - form.own) {
        for (i in 0 until columns) if (raw[row * columns + i] > raw[best[i] * columns + i]) best[i] = row
    }
    val found = (0 until columns).filter { raw[best[it] * columns + it] > settings.conf }.map {
        val x = raw[it]
        val y = raw[columns + it]
        val wide = raw[2 * columns + it] / 2
        val tall = raw[3 * columns + it] / 2
        val own = (rows - form.own until rows).map { row -> raw[row * columns + it] }
        val score = raw[best[it] * columns + it]
        val box = listOf(x, y, 2 * wide, 2 * tall)
        Detection(x - wide, y - tall, x + wide, y + tall, score, best[it] - 4, turned(box, own))
    }
    return nms(found, settings, form.turned).map { found[it] }
}

/** Class names of the file's note `names`, a dictionary as Python writes it: {0: 'disc', 1: "it's"}. */
fun readNames(note: String): List<String> =
    Regex("""(['"])((?:\\.|(?!\1).)*)\1""").findAll(note)
        .map { it.groupValues[2].replace(Regex("""\\(.)"""), "$1") }.toList()
