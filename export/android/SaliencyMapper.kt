package org.kerasrecnet.example

import android.graphics.Bitmap
import java.io.Closeable
import java.nio.ByteBuffer

/**
 * What stands out in a photograph, by a RecNet's LiteRT file.
 *
 *     SaliencyMapper(mappedAsset(context, "recnet_lite0.tflite")).use { mapper ->
 *         val map = mapper.map(photo, rotationDegrees = 90)
 *     }
 *
 * Make it once, and use it on the thread that made it, not on the main one.
 *
 * @param model the file; mapped, so that it costs no memory of its own.
 * @param threads of the processor, where it runs there.
 * @param useGpu try the GPU first.
 */
class SaliencyMapper(model: ByteBuffer, threads: Int = 4, useGpu: Boolean = true) : Closeable {
    private val runtime = LiteRt(model, threads, useGpu)
    private val imageType = runtime.imageType(SIGNATURE, IMAGE)
    private val image: ByteBuffer
    private val saliency: ByteBuffer

    /** What runs the network, `"GPU"` or `"CPU"`. */
    val device: String
        get() = runtime.device

    init {
        val imageShape = runtime.inputShape(SIGNATURE, IMAGE, IMAGE_TYPES)
        val saliencyShape = runtime.outputShape(SIGNATURE, SALIENCY)
        require(imageShape.contentEquals(IMAGE_SHAPE) && saliencyShape.contentEquals(SALIENCY_SHAPE)) {
            "The file is for ${imageShape.toList()} -> ${saliencyShape.toList()}: put its shapes into this class"
        }
        image = imageBuffer(IMAGE_SHAPE, imageType)
        saliency = floatsOf(SALIENCY_SHAPE)
    }

    /**
     * The map of a picture, grey, white where it stands out, of the upright picture's size.
     *
     * @param picture a bitmap in memory that software can read, not `Bitmap.Config.HARDWARE`.
     * @param rotationDegrees how far it must be turned clockwise to stand upright: EXIF's orientation, or CameraX'
     *     `imageInfo.rotationDegrees`.
     */
    fun map(picture: Bitmap, rotationDegrees: Int = 0): Bitmap {
        val turned = upright(picture, rotationDegrees)
        val (_, height, width, _) = IMAGE_SHAPE
        writeImage(turned, height, width, imageType, image)
        saliency.rewind()
        runtime.interpreter.runSignature(
            mapOf<String, Any>(IMAGE to image), mapOf<String, Any>(SALIENCY to saliency), SIGNATURE
        )
        return readMap(saliency, height, width, turned.width, turned.height)
    }

    override fun close() = runtime.close()

    companion object {
        const val SIGNATURE = "serving_default"
        const val IMAGE = "image"
        const val SALIENCY = "saliency"

        /** Of the preset recnet_lite0: batch, height, width, channels. */
        val IMAGE_SHAPE = intArrayOf(1, 320, 320, 3)
        val SALIENCY_SHAPE = intArrayOf(1, 320, 320, 1)
    }
}
