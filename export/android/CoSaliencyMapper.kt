package org.kerasrecnet.example

import android.graphics.Bitmap
import java.io.Closeable
import java.nio.ByteBuffer

/**
 * Co-saliency maps of a group of photographs, with the LiteRT file of an RCAUNet.
 *
 * There are two passes: each image is encoded and updates the state of the group, then each image is decoded with the
 * final state. Only one image is needed at a time, and the memory does not depend on the number of images.
 *
 *     CoSaliencyMapper(mappedAsset(context, "group.tflite")).use { mapper ->
 *         mapper.maps(files.size, { decode(files[it]) }) { index, map -> save(index, map) }
 *     }
 *
 * Create the mapper once, and use it only on the thread that created it, which should not be the main thread.
 *
 * @param model the memory-mapped file.
 * @param threads number of CPU threads.
 * @param useGpu whether to try the GPU first.
 */
class CoSaliencyMapper(model: ByteBuffer, threads: Int = 4, useGpu: Boolean = true) : Closeable {
    private val runtime = LiteRt(model, threads, useGpu)
    private val imageShape = runtime.inputShape(ENCODE, IMAGE, IMAGE_TYPES)
    private val imageType = runtime.imageType(ENCODE, IMAGE)
    private val saliencyShape = runtime.outputShape(DECODE, SALIENCY)
    private val hasState = STEP in runtime.interpreter.signatureKeys

    private val image = imageBuffer(imageShape, imageType)
    private val saliency = floatsOf(saliencyShape)

    /** The outputs of `encode`; `step` and `decode` use some of them. */
    private val features = buffersOf(ENCODE)

    /** The outputs of `step`, which are also inputs of `step` and `decode`. */
    private var state = if (hasState) buffersOf(STEP) else emptyMap()
    private var nextState = if (hasState) buffersOf(STEP) else emptyMap()

    /** The device that runs the network, `"GPU"` or `"CPU"`. */
    val device: String
        get() = runtime.device

    init {
        require(imageShape.size == 4 && imageShape[0] == 1 && imageShape[3] == RGB) {
            "Images must be (1, height, width, $RGB). The file has ${imageShape.toList()}"
        }
        require(saliencyShape.contentEquals(intArrayOf(1, imageShape[1], imageShape[2], 1))) {
            "Maps must be (1, height, width, 1). The file has ${saliencyShape.toList()}"
        }
    }

    /**
     * Compute the maps of a group: gray (white where co-salient), each of the size of its upright image.
     *
     * @param count number of images, at least 1.
     * @param picture returns the upright image at an index; called twice per image.
     * @param onMap receives the index and the map of each image.
     */
    fun maps(count: Int, picture: (Int) -> Bitmap, onMap: (Int, Bitmap) -> Unit) {
        require(count > 0) { "A group must have at least one image. Received: count=$count" }
        if (hasState) {
            for (buffer in state.values) setToZero(buffer)
            for (index in 0 until count) {
                encode(picture(index))
                step()
            }
        }
        for (index in 0 until count) {
            val one = picture(index)
            encode(one)
            decode()
            onMap(index, readMap(saliency, imageShape[1], imageShape[2], one.width, one.height))
        }
    }

    /** Compute the maps of images in memory. */
    fun maps(pictures: List<Bitmap>): List<Bitmap> {
        val maps = ArrayList<Bitmap>(pictures.size)
        maps(pictures.size, { pictures[it] }) { _, map -> maps.add(map) }
        return maps
    }

    override fun close() = runtime.close()

    private fun encode(picture: Bitmap) {
        writeImage(picture, imageShape[1], imageShape[2], imageType, image)
        run(ENCODE, mapOf(IMAGE to image), features)
    }

    private fun step() {
        run(STEP, inputsOf(STEP), nextState)
        state = nextState.also { nextState = state }
    }

    private fun decode() = run(DECODE, inputsOf(DECODE), mapOf(SALIENCY to saliency))

    /** The features and the state that are inputs of a signature. */
    private fun inputsOf(signature: String): Map<String, ByteBuffer> {
        val tensors = features + state
        return runtime.interpreter.getSignatureInputs(signature).associateWith { tensors.getValue(it) }
    }

    /** Create buffers for the outputs of a signature. */
    private fun buffersOf(signature: String): Map<String, ByteBuffer> =
        runtime.interpreter.getSignatureOutputs(signature).associateWith { floatsOf(runtime.outputShape(signature, it)) }

    private fun setToZero(buffer: ByteBuffer) {
        for (position in 0 until buffer.capacity()) buffer.put(position, 0)
    }

    private fun run(signature: String, inputs: Map<String, ByteBuffer>, outputs: Map<String, ByteBuffer>) {
        for (buffer in inputs.values + outputs.values) buffer.rewind()
        runtime.interpreter.runSignature(inputs, outputs, signature)
    }

    companion object {
        const val ENCODE = "encode"
        const val STEP = "step"
        const val DECODE = "decode"
        const val IMAGE = "image"
        const val SALIENCY = "saliency"
    }
}
