"""The JavaScript client: an npm package, packed from this folder as it is, and served by the hub at `/hub.js`."""
