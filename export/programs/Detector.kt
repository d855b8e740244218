// Runs a file of `yolo-distill export` on Android, with com.microsoft.onnxruntime:onnxruntime-android.
package yolo

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import android.graphics.Bitmap
import java.nio.FloatBuffer

/**
 * A detector. Open it once and keep it; several threads may call it at once.
 *
 * @param file the bytes of an `.onnx` or `.ort` file.
 * @param options where it runs and with how many threads.
 */
class Detector(file: ByteArray, options: OrtSession.SessionOptions = OrtSession.SessionOptions()) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session = environment.createSession(file, options)
    private val notes = session.metadata.customMetadata
    private val input = session.inputInfo.entries.first()
    private val size = wholes("imgsz")
    private val points = if (notes["task"] == "pose") wholes("kpt_shape") else listOf(0, 0)
    private val turned = notes["task"] == "obb"
    private val segments = notes["task"] == "segment"
    private val form =
        Form(notes["end2end"] == "True", if (turned) 1 else points[0] * points[1], points[1], turned)

    /** Class names by `classId`. */
    val names = readNames(notes.getValue("names"))

    init {
        val task = notes["task"]
        require(task in listOf("detect", "segment", "pose", "obb")) {
            "the model is for $task, which this program does not do"
        }
        val type = (input.value.info as TensorInfo).type
        require(type == OnnxJavaType.FLOAT) { "the model takes $type: export it with input=floats" }
    }

    private fun wholes(note: String) = Regex("""\d+""").findAll(notes.getValue(note)).map { it.value.toInt() }.toList()

    /** What the picture shows, in its pixels, best first. A `HARDWARE` bitmap has to be copied before. */
    fun detect(picture: Bitmap, settings: Settings = Settings()): List<Detection> {
        val transform = Transform(picture.height, picture.width, size[0], size[1])
        val argb = IntArray(picture.width * picture.height)
        picture.getPixels(argb, 0, picture.width, 0, 0, picture.width, picture.height)
        val floats = FloatBuffer.wrap(letterbox(argb, transform))
        val shape = longArrayOf(1, 3, size[0].toLong(), size[1].toLong())
        OnnxTensor.createTensor(environment, floats, shape).use { tensor ->
            session.run(mapOf(input.key to tensor)).use { answers ->
                val bySides = answers.map { it.value as OnnxTensor }.associateBy { it.info.shape.size }
                val protos = if (segments) numbers(bySides.getValue(4)) else null
                val (raw, sides) = numbers(bySides.getValue(3))
                val (_, rows, columns) = sides
                val form = Form(form.end2end, protos?.second?.get(1) ?: form.own, form.keypoint, form.turned)
                val right = if (form.end2end) columns == 6 + form.own else rows == 4 + names.size + form.own
                check(right) { "the model answers $rows x $columns" }
                val found = decode(raw, rows, columns, form, settings).map { transform.toPicture(it, form) }
                val (data, shape) = protos ?: return found
                val prototypes = Prototypes(data, shape[1], shape[2], shape[3], transform)
                return found.mapNotNull { one ->
                    prototypes.mask(one)?.let { one.copy(own = emptyList(), mask = it) }
                }
            }
        }
    }

    private fun numbers(tensor: OnnxTensor) =
        tensor.floatBuffer.let { FloatArray(it.remaining()).also(it::get) } to tensor.info.shape.map { it.toInt() }

    override fun close() = session.close()
}
