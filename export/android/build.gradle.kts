// Additions to the build.gradle.kts of an app.

android {
    defaultConfig {
        minSdk = 24
    }
    androidResources {
        // the file is memory-mapped, and its weights hardly compress
        noCompress += "tflite"
    }
}

dependencies {
    implementation("com.google.ai.edge.litert:litert:1.4.2")
    implementation("com.google.ai.edge.litert:litert-gpu:1.4.2")
    implementation("com.google.ai.edge.litert:litert-gpu-api:1.4.2")
}
