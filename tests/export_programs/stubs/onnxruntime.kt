// What Detector.kt uses of com.microsoft.onnxruntime:onnxruntime-android, as its documentation has it; to check types.
package ai.onnxruntime

import java.nio.FloatBuffer

enum class OnnxJavaType { FLOAT }
interface ValueInfo
class TensorInfo(val shape: LongArray, @JvmField val type: OnnxJavaType) : ValueInfo
class NodeInfo(val info: ValueInfo)
class OnnxModelMetadata(val customMetadata: Map<String, String>)
interface OnnxValue : AutoCloseable
abstract class OnnxTensor : OnnxValue {
    abstract val info: TensorInfo
    abstract val floatBuffer: FloatBuffer
    companion object {
        @JvmStatic fun createTensor(environment: OrtEnvironment, data: FloatBuffer, shape: LongArray): OnnxTensor =
            TODO()
    }
}
abstract class OrtEnvironment : AutoCloseable {
    abstract fun createSession(file: ByteArray, options: OrtSession.SessionOptions): OrtSession
    companion object { @JvmStatic fun getEnvironment(): OrtEnvironment = TODO() }
}
abstract class OrtSession : AutoCloseable {
    abstract val metadata: OnnxModelMetadata
    abstract val inputInfo: Map<String, NodeInfo>
    abstract fun run(inputs: Map<String, OnnxTensor>): Result
    abstract class Result : AutoCloseable, Iterable<Map.Entry<String, OnnxValue>>
    class SessionOptions
}
