/** Reads a token's claims for display. The hub verifies them, not this page. @module hub/token_claims */

/** @typedef {{user: string, tenant: string, expiresAt: Date|null}} Claims */

/** @param {string} token @returns {Claims|null} null if it is not a JWT */
export function claimsOf(token) {
  const part = token.split(".")[1] ?? "";
  try {
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
    const { sub, tenant, exp } = JSON.parse(new TextDecoder().decode(bytes));
    return { user: String(sub), tenant: String(tenant), expiresAt: typeof exp === "number" ? new Date(exp * 1000) : null };
  } catch {
    return null; // not JSON in base64; the caller reports it
  }
}
