// Answers what test_export_programs.py asks on standard input, a line each, with export/programs/Yolo.kt and Masks.kt.
package yolo

fun said(one: Detection) =
    (listOf(one.x1, one.y1, one.x2, one.y2, one.score, one.classId) + one.own).joinToString(" ")

fun boxes(numbers: List<Float>) =
    numbers.chunked(6).map { Detection(it[0], it[1], it[2], it[3], it[4], it[5].toInt()) }

fun answer(what: String, words: List<String>): String {
    fun whole(place: Int) = words[place].toInt()
    fun floats(from: Int) = words.drop(from).map { it.toFloat() }
    fun transform() = Transform(whole(0), whole(1), whole(2), whole(3))
    return when (what) {
        "letterbox" -> {
            val argb = words.drop(4).chunked(3) { (red, green, blue) ->
                255 shl 24 or (red.toInt() shl 16) or (green.toInt() shl 8) or blue.toInt()
            }
            val lies = transform()
            val input = letterbox(argb.toIntArray(), lies)
            "${lies.rows} ${lies.columns} ${lies.top} ${lies.left} ${input.joinToString(" ")}"
        }
        "back" -> boxes(floats(4)).joinToString(" ") { said(transform().toPicture(it)) }
        "decode" -> {
            val settings = Settings(words[0].toFloat(), words[1].toDouble(), whole(2))
            try {
                decode(floats(6).toFloatArray(), whole(4), whole(5), Form(whole(3) != 0), settings)
                    .joinToString(" ") { said(it) }
            } catch (error: IllegalStateException) {
                "refused"
            }
        }
        "task" -> {
            val settings = Settings(words[4].toFloat(), words[5].toDouble(), whole(6))
            val form = Form(whole(7) != 0, whole(8), whole(9), whole(10) != 0)
            decode(floats(13).toFloatArray(), whole(11), whole(12), form, settings)
                .joinToString(" ") { said(transform().toPicture(it, form)) }
        }
        "mask" -> {
            val values = floats(7).toFloatArray()
            val (count, tall, wide) = (4..6).map { whole(it) }
            val weights = values.slice(4 until 4 + count)
            val protos = values.copyOfRange(4 + count, values.size)
            val found = Detection(values[0], values[1], values[2], values[3], 1f, 0, weights)
            val mask = Prototypes(protos, count, tall, wide, transform()).mask(found)
            mask?.run { "$top $left $height $width " + bits.joinToString(" ") { if (it) "1" else "0" } } ?: ""
        }
        "nms" -> nms(boxes(floats(2)), Settings(0f, words[0].toDouble(), whole(1))).joinToString(" ")
        else -> error(what)
    }
}

fun main() {
    System.`in`.bufferedReader().forEachLine { line ->
        val (what, rest) = line.split(" ", limit = 2)
        println(if (what == "names") readNames(rest).joinToString("\t") else answer(what, rest.split(" ")))
    }
}
