/** Draws an image file onto a canvas: the page's policy allows no image from elsewhere, and no address made for a file. @module picture */

const SIDE_MAX = 320; // pixels of a picture's longer side

/** @param {Blob} file @param {string} name for those who do not see it @returns {Promise<HTMLCanvasElement|null>} null if it is no image that the browser reads */
export async function pictureOf(file, name) {
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) return null;
  const scale = Math.min(1, SIDE_MAX / Math.max(image.width, image.height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.max(1, Math.round(image.width * scale)), Math.max(1, Math.round(image.height * scale))];
  canvas.className = "picture";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `picture ${name}`);
  canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
  image.close();
  return canvas;
}
