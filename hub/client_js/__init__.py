"""The JavaScript client: this folder is an npm package, which the hub also serves at `/hub.js`."""
