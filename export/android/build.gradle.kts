// What your app's build.gradle.kts needs beside what it has.

android {
    defaultConfig {
        minSdk = 24
    }
    androidResources {
        // mapped into memory as it is, and compression would gain nothing
        noCompress += "tflite"
    }
}

dependencies {
    implementation("com.google.ai.edge.litert:litert:1.4.2")
    implementation("com.google.ai.edge.litert:litert-gpu:1.4.2")
    implementation("com.google.ai.edge.litert:litert-gpu-api:1.4.2")
}
