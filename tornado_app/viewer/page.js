// Shows the contract in the page that loaded this script; everything comes from the server itself.
const contract = new URL("../openapi.json", document.currentScript.src).href;

addEventListener("DOMContentLoaded", () => {
  SwaggerUIBundle({
    url: contract,
    dom_id: "#docs",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
});
