package org.kerasrecnet.example

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Color
import android.graphics.Matrix
import android.util.Log
import java.io.Closeable
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.gpu.CompatibilityList
import org.tensorflow.lite.gpu.GpuDelegate

/** Types of images, selected by `keras-recnet export --input-dtype`. */
val IMAGE_TYPES = listOf(DataType.FLOAT32, DataType.UINT8)

/** Type of all other tensors. */
val TENSOR_TYPE = DataType.FLOAT32

const val RGB = 3

/** Memory-map a file in `assets`, which must be stored uncompressed (see build.gradle.kts). */
fun mappedAsset(context: Context, name: String): ByteBuffer =
    context.assets.openFd(name).use { asset ->
        FileInputStream(asset.fileDescriptor).use { stream ->
            stream.channel.map(FileChannel.MapMode.READ_ONLY, asset.startOffset, asset.declaredLength)
        }
    }

/**
 * An interpreter on the GPU, or on the CPU if the GPU does not support the network.
 *
 * The GPU delegate is bound to the thread that created it: create and use this class on the same thread.
 */
class LiteRt(model: ByteBuffer, threads: Int, useGpu: Boolean) : Closeable {
    private var delegate: GpuDelegate? = null

    val interpreter: Interpreter = (if (useGpu) onGpu(model) else null)
        ?: Interpreter(model, Interpreter.Options().setNumThreads(threads))

    /** The device that runs the network, `"GPU"` or `"CPU"`. */
    val device: String
        get() = if (delegate == null) "CPU" else "GPU"

    private fun onGpu(model: ByteBuffer): Interpreter? {
        CompatibilityList().use { list ->
            if (!list.isDelegateSupportedOnThisDevice) return null
            var gpu: GpuDelegate? = null
            return try {
                gpu = GpuDelegate(list.bestOptionsForThisDevice)
                Interpreter(model, Interpreter.Options().addDelegate(gpu)).also { delegate = gpu }
            } catch (error: RuntimeException) {
                // some drivers do not support everything that they claim to support
                Log.w("LiteRt", "The GPU does not support this network; using the CPU.", error)
                gpu?.close()
                null
            }
        }
    }

    /** Check the type of an input of a signature and return its shape. */
    fun inputShape(signature: String, name: String, types: List<DataType>): IntArray {
        val tensor = interpreter.getInputTensorFromSignature(name, signature)
        require(tensor.dataType() in types) {
            "$signature: $name must be one of $types. The file has ${tensor.dataType()}"
        }
        return tensor.shape()
    }

    /** Check the type of an output of a signature and return its shape. */
    fun outputShape(signature: String, name: String): IntArray {
        val tensor = interpreter.getOutputTensorFromSignature(name, signature)
        require(tensor.dataType() == TENSOR_TYPE) {
            "$signature: $name must be $TENSOR_TYPE. The file has ${tensor.dataType()}"
        }
        return tensor.shape()
    }

    fun imageType(signature: String, name: String): DataType =
        interpreter.getInputTensorFromSignature(name, signature).dataType()

    override fun close() {
        interpreter.close()
        delegate?.close()
    }
}

/** Create a buffer for a tensor. */
fun directBuffer(bytes: Int): ByteBuffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

/** Create a buffer for a float32 tensor. */
fun floatsOf(shape: IntArray): ByteBuffer = directBuffer(4 * shape.fold(1) { product, length -> product * length })

/** Create a buffer for an image `(1, height, width, 3)`. */
fun imageBuffer(shape: IntArray, type: DataType): ByteBuffer =
    directBuffer(shape[1] * shape[2] * RGB * (if (type == DataType.UINT8) 1 else 4))

/** Rotate an image clockwise, by the degrees from EXIF or the camera. */
fun upright(picture: Bitmap, degrees: Int): Bitmap =
    if (degrees % 360 == 0) picture
    else Bitmap.createBitmap(
        picture, 0, 0, picture.width, picture.height, Matrix().apply { postRotate(degrees.toFloat()) }, true
    )

/**
 * Resize an image into a buffer, RGB in 0…255, bilinear with antialiasing, as in training, without keeping the aspect
 * ratio. `Bitmap.createScaledBitmap` has no antialiasing.
 */
fun writeImage(picture: Bitmap, height: Int, width: Int, type: DataType, into: ByteBuffer) {
    val across = Weights(picture.width, width)
    val down = Weights(picture.height, height)
    val sums = FloatArray(height * width * RGB)
    val pixels = IntArray(picture.width)
    val row = FloatArray(width * RGB)
    var top = 0
    for (y in 0 until picture.height) {
        picture.getPixels(pixels, 0, picture.width, 0, y, picture.width, 1)
        across.resize(pixels, row)
        while (top < height && down.end(top) <= y) top++
        var target = top
        while (target < height && down.first[target] <= y) {
            val weight = down.of[target][y - down.first[target]]
            for (i in row.indices) sums[target * row.size + i] += weight * row[i]
            target++
        }
    }
    into.rewind()
    if (type == DataType.UINT8) {
        for (value in sums) into.put((value + 0.5f).toInt().coerceIn(0, 255).toByte())
    } else {
        for (value in sums) into.putFloat(value)
    }
    into.rewind()
}

/** For each pixel of a resized line, the first source pixel and the weights of a triangle filter. */
private class Weights(from: Int, to: Int) {
    val first = IntArray(to)
    val of: Array<FloatArray>

    init {
        val scale = from.toDouble() / to
        val reach = max(scale, 1.0)
        of = Array(to) { index ->
            val center = (index + 0.5) * scale
            val begin = max((center - reach + 0.5).toInt(), 0)
            val end = min((center + reach + 0.5).toInt(), from)
            first[index] = begin
            val weights = DoubleArray(end - begin) { max(0.0, 1 - abs(begin + it + 0.5 - center) / reach) }
            val sum = weights.sum()
            FloatArray(weights.size) { (weights[it] / sum).toFloat() }
        }
    }

    fun end(index: Int) = first[index] + of[index].size

    fun resize(pixels: IntArray, row: FloatArray) {
        for (index in of.indices) {
            var red = 0f
            var green = 0f
            var blue = 0f
            for (i in of[index].indices) {
                val weight = of[index][i]
                val pixel = pixels[first[index] + i]
                red += weight * Color.red(pixel)
                green += weight * Color.green(pixel)
                blue += weight * Color.blue(pixel)
            }
            row[RGB * index] = red
            row[RGB * index + 1] = green
            row[RGB * index + 2] = blue
        }
    }
}

/** Convert a map `(1, height, width, 1)` in 0…1 to a gray bitmap of a different size. */
fun readMap(from: ByteBuffer, height: Int, width: Int, outWidth: Int, outHeight: Int): Bitmap {
    from.rewind()
    val floats = from.asFloatBuffer()
    val pixels = IntArray(height * width) {
        val gray = (floats.get(it) * 255 + 0.5f).toInt().coerceIn(0, 255)
        Color.rgb(gray, gray, gray)
    }
    val small = Bitmap.createBitmap(pixels, width, height, Bitmap.Config.ARGB_8888)
    return Bitmap.createScaledBitmap(small, outWidth, outHeight, true)
}
