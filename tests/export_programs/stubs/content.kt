package android.content

abstract class AssetManager { abstract fun open(name: String): java.io.InputStream }
abstract class Context { abstract val assets: AssetManager }
