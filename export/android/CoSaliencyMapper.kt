package org.kerasrecnet.example

import android.graphics.Bitmap
import java.io.Closeable
import java.nio.ByteBuffer

/**
 * What the photographs of a group have in common, by an RCAUNet's LiteRT file.
 *
 * The group is gone through twice: first each picture is encoded and taken into the group's state, then each is decoded
 * with the last state. No more than one picture is needed at a time, and the memory is the same for 2 pictures and 200.
 *
 *     CoSaliencyMapper(mappedAsset(context, "group.tflite")).use { mapper ->
 *         mapper.maps(files.size, { decode(files[it]) }) { index, map -> save(index, map) }
 *     }
 *
 * Make it once, and use it on the thread that made it, not on the main one.
 *
 * @param model the file; mapped, so that it costs no memory of its own.
 * @param threads of the processor, where it runs there.
 * @param useGpu try the GPU first.
 */
class CoSaliencyMapper(model: ByteBuffer, threads: Int = 4, useGpu: Boolean = true) : Closeable {
    private val runtime = LiteRt(model, threads, useGpu)
    private val imageShape = runtime.inputShape(ENCODE, IMAGE, IMAGE_TYPES)
    private val imageType = runtime.imageType(ENCODE, IMAGE)
    private val saliencyShape = runtime.outputShape(DECODE, SALIENCY)
    private val hasState = STEP in runtime.interpreter.signatureKeys

    private val image = imageBuffer(imageShape, imageType)
    private val saliency = floatsOf(saliencyShape)

    /** What `encode` gives and `decode` takes: `x`, and what else the file names. */
    private val features: Map<String, ByteBuffer> =
        runtime.interpreter.getSignatureOutputs(ENCODE).associate { it to floatsOf(runtime.outputShape(ENCODE, it)) }
    private var state = stateBuffer()
    private var nextState = stateBuffer()

    /** What runs the network, `"GPU"` or `"CPU"`. */
    val device: String
        get() = runtime.device

    init {
        require(imageShape.size == 4 && imageShape[0] == 1 && imageShape[3] == RGB) {
            "Images are (1, height, width, $RGB). The file has ${imageShape.toList()}"
        }
        require(saliencyShape.contentEquals(intArrayOf(1, imageShape[1], imageShape[2], 1))) {
            "Maps are (1, height, width, 1). The file has ${saliencyShape.toList()}"
        }
    }

    /**
     * The maps of a group, one after another: grey, white where it is what they have in common, of each upright
     * picture's size.
     *
     * @param count how many pictures there are, 1 or more.
     * @param picture gives the picture of an index, upright; it is asked twice for each.
     * @param onMap takes the map of an index.
     */
    fun maps(count: Int, picture: (Int) -> Bitmap, onMap: (Int, Bitmap) -> Unit) {
        require(count > 0) { "A group has at least one picture. Received: count=$count" }
        if (hasState) {
            for (index in 0 until count) {
                encode(picture(index))
                if (index == 0) startState()
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

    /** The maps of pictures that are in memory already. */
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

    /** The state before the first picture: its x, with channels of zeros behind it where the state has more. */
    private fun startState() {
        val xChannels = runtime.outputShape(ENCODE, X)[3]
        val stateShape = runtime.inputShape(STEP, STATE, listOf(TENSOR_TYPE))
        val x = features.getValue(X)
        for (position in 0 until stateShape[1] * stateShape[2]) {
            for (channel in 0 until stateShape[3]) {
                val value = if (channel < xChannels) x.getFloat(4 * (position * xChannels + channel)) else 0f
                state.putFloat(4 * (position * stateShape[3] + channel), value)
            }
        }
    }

    private fun step() {
        run(STEP, mapOf(X to features.getValue(X), STATE to state), mapOf(STATE to nextState))
        state = nextState.also { nextState = state }
    }

    private fun decode() {
        val group = if (hasState) mapOf(STATE to state) else emptyMap()
        run(DECODE, features + group, mapOf(SALIENCY to saliency))
    }

    private fun run(signature: String, inputs: Map<String, ByteBuffer>, outputs: Map<String, ByteBuffer>) {
        for (buffer in inputs.values + outputs.values) buffer.rewind()
        runtime.interpreter.runSignature(inputs, outputs, signature)
    }

    private fun stateBuffer() =
        if (hasState) floatsOf(runtime.inputShape(STEP, STATE, listOf(TENSOR_TYPE))) else directBuffer(0)

    companion object {
        const val ENCODE = "encode"
        const val STEP = "step"
        const val DECODE = "decode"
        const val IMAGE = "image"
        const val X = "x"
        const val STATE = "state"
        const val SALIENCY = "saliency"
    }
}
