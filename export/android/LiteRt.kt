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

/** The types that a file's images may have; `keras-recnet export --input-dtype` chooses. */
val IMAGE_TYPES = listOf(DataType.FLOAT32, DataType.UINT8)

/** The type of everything else. */
val TENSOR_TYPE = DataType.FLOAT32

const val RGB = 3

/** A file in `assets`, mapped and not read; it must be stored uncompressed (see build.gradle.kts). */
fun mappedAsset(context: Context, name: String): ByteBuffer =
    context.assets.openFd(name).use { asset ->
        FileInputStream(asset.fileDescriptor).use { stream ->
            stream.channel.map(FileChannel.MapMode.READ_ONLY, asset.startOffset, asset.declaredLength)
        }
    }

/**
 * An interpreter on the GPU, or on the processor where the GPU cannot have it.
 *
 * The GPU delegate belongs to the thread that made it: make and use this on one and the same thread.
 */
class LiteRt(model: ByteBuffer, threads: Int, useGpu: Boolean) : Closeable {
    private var delegate: GpuDelegate? = null

    val interpreter: Interpreter = (if (useGpu) onGpu(model) else null)
        ?: Interpreter(model, Interpreter.Options().setNumThreads(threads))

    /** What runs the network, `"GPU"` or `"CPU"`. */
    val device: String
        get() = if (delegate == null) "CPU" else "GPU"

    private fun onGpu(model: ByteBuffer): Interpreter? {
        CompatibilityList().use { list ->
            if (!list.isDelegateSupportedOnThisDevice) return null
            var made: GpuDelegate? = null
            return try {
                made = GpuDelegate(list.bestOptionsForThisDevice)
                Interpreter(model, Interpreter.Options().addDelegate(made)).also { delegate = made }
            } catch (error: RuntimeException) {
                // A driver that promises more than it can do: better slow than not at all.
                Log.w("LiteRt", "The GPU does not take this network, the processor does.", error)
                made?.close()
                null
            }
        }
    }

    /** The shape of a signature's input, after a check of its type. */
    fun inputShape(signature: String, name: String, types: List<DataType>): IntArray {
        val tensor = interpreter.getInputTensorFromSignature(name, signature)
        require(tensor.dataType() in types) { "$signature: $name is of ${tensor.dataType()}, not of one of $types" }
        return tensor.shape()
    }

    /** The shape of a signature's output, after a check of its type. */
    fun outputShape(signature: String, name: String): IntArray {
        val tensor = interpreter.getOutputTensorFromSignature(name, signature)
        require(tensor.dataType() == TENSOR_TYPE) { "$signature: $name is of ${tensor.dataType()}, not $TENSOR_TYPE" }
        return tensor.shape()
    }

    fun imageType(signature: String, name: String): DataType =
        interpreter.getInputTensorFromSignature(name, signature).dataType()

    override fun close() {
        interpreter.close()
        delegate?.close()
    }
}

/** A buffer that an interpreter writes to or reads from. */
fun directBuffer(bytes: Int): ByteBuffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

/** A buffer for the floats of a shape. */
fun floatsOf(shape: IntArray): ByteBuffer = directBuffer(4 * shape.fold(1) { product, length -> product * length })

/** A buffer for an image of a shape (1, height, width, 3) and a type. */
fun imageBuffer(shape: IntArray, type: DataType): ByteBuffer =
    directBuffer(shape[1] * shape[2] * RGB * (if (type == DataType.UINT8) 1 else 4))

/** The picture as it should stand, turned clockwise by what EXIF or the camera says. */
fun upright(picture: Bitmap, degrees: Int): Bitmap =
    if (degrees % 360 == 0) picture
    else Bitmap.createBitmap(
        picture, 0, 0, picture.width, picture.height, Matrix().apply { postRotate(degrees.toFloat()) }, true
    )

/**
 * Resizes a picture into an image buffer, RGB in 0…255, bilinear with antialiasing as the networks were trained; the
 * aspect is not kept. `Bitmap.createScaledBitmap` leaves pixels out when it makes a picture much smaller.
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

/** Of each pixel of a resized line: the first source pixel that it sees, and their weights, a triangle around it. */
private class Weights(from: Int, to: Int) {
    val first = IntArray(to)
    val of: Array<FloatArray>

    init {
        val scale = from.toDouble() / to
        val reach = max(scale, 1.0)
        of = Array(to) { index ->
            val centre = (index + 0.5) * scale
            val begin = max((centre - reach + 0.5).toInt(), 0)
            val end = min((centre + reach + 0.5).toInt(), from)
            first[index] = begin
            val weights = DoubleArray(end - begin) { max(0.0, 1 - abs(begin + it + 0.5 - centre) / reach) }
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

/** The grey picture, of the size that is asked for, of a map (1, height, width, 1) in 0…1. */
fun readMap(from: ByteBuffer, height: Int, width: Int, outWidth: Int, outHeight: Int): Bitmap {
    from.rewind()
    val floats = from.asFloatBuffer()
    val pixels = IntArray(height * width) {
        val grey = (floats.get(it) * 255 + 0.5f).toInt().coerceIn(0, 255)
        Color.rgb(grey, grey, grey)
    }
    val small = Bitmap.createBitmap(pixels, width, height, Bitmap.Config.ARGB_8888)
    return Bitmap.createScaledBitmap(small, outWidth, outHeight, true)
}
