"""A static page that runs the networks in the visitor's browser, with LiteRT.js; see `keras-recnet web`."""
