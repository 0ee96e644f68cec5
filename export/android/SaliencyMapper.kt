package org.kerasrecnet.example

import android.graphics.Bitmap
import java.io.Closeable
import java.nio.ByteBuffer

/**
 * Saliency maps of photographs, with the LiteRT file of a RecNet.
 *
 *     SaliencyMapper(mappedAsset(context, "recnet_lite0.tflite")).use { mapper ->
 *         val map = mapper.map(photo, rotationDegrees = 90)
 *     }
 *
 * Create the mapper once, and use it only on the thread that created it, which should not be the main thread.
 *
 * @param model the memory-mapped file.
 * @param threads number of CPU threads.
 * @param useGpu whether to try the GPU first.
 */
class SaliencyMapper(model: ByteBuffer, threads: Int = 4, useGpu: Boolean = true) : Closeable {
    private val runtime = LiteRt(model, threads, useGpu)
    private val imageType = runtime.imageType(SIGNATURE, IMAGE)
    private val image: ByteBuffer
    private val saliency: ByteBuffer

    /** The device that runs the network, `"GPU"` or `"CPU"`. */
    val device: String
        get() = runtime.device

    init {
        val imageShape = runtime.inputShape(SIGNATURE, IMAGE, IMAGE_TYPES)
        val saliencyShape = runtime.outputShape(SIGNATURE, SALIENCY)
        require(imageShape.contentEquals(IMAGE_SHAPE) && saliencyShape.contentEquals(SALIENCY_SHAPE)) {
            "The shapes of the file are ${imageShape.toList()} and ${saliencyShape.toList()}. Change them in this class"
        }
        image = imageBuffer(IMAGE_SHAPE, imageType)
        saliency = floatsOf(SALIENCY_SHAPE)
    }

    /**
     * Compute the saliency map of an image: gray (white where salient), of the size of the upright image.
     *
     * @param picture a bitmap in memory, not `Bitmap.Config.HARDWARE`.
     * @param rotationDegrees clockwise rotation that makes the image upright, from EXIF or CameraX'
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

        /** Shapes of the preset recnet_lite0: batch, height, width, channels. */
        val IMAGE_SHAPE = intArrayOf(1, 320, 320, 3)
        val SALIENCY_SHAPE = intArrayOf(1, 320, 320, 1)
    }
}
