// The launcher tile of Holdfast, as JupyterLab 4 loads federated extensions: a container with `init` and `get`. It is
// written by hand in the shape that a bundler would give it, so that no build step is needed.
(() => {
  const COMMAND = "holdfast:open";
  const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="16">
    <g class="jp-icon3" fill="#616161"><path d="M3 7c3 0 5 1 6.500 3h5c1.500-2 3.500-3 6.500-3v2.500c-2.500 0-4 1-5 3v1h2V17H6v-3.500h2v-1c-1-2-2.500-3-5-3z"/></g>
  </svg>`;

  let shared = {};

  /** Return a module that JupyterLab shares; undefined where it has none of this name. */
  async function find(name) {
    const versions = Object.values(shared[name] ?? {});
    if (versions.length === 0) return undefined;
    const loaded = versions.find((version) => version.loaded) ?? versions[0];
    return (await loaded.get())();
  }

  async function plugin() {
    const [launcher, apputils, ui] = await Promise.all(
      ["@jupyterlab/launcher", "@jupyterlab/apputils", "@jupyterlab/ui-components"].map(find),
    );
    return {
      id: "holdfast:launcher",
      description: "A tile in the launcher, and a command, that open the page of the Holdfast server.",
      autoStart: true,
      optional: [launcher?.ILauncher, apputils?.ICommandPalette].filter(Boolean),
      activate(app, ...found) {
        // In the order of `optional`; Notebook 7 has no launcher.
        const launch = launcher && found.shift();
        const palette = apputils && found.shift();
        app.commands.addCommand(COMMAND, {
          label: "Holdfast",
          caption: "Long processes and big transfers: open the page of your Holdfast server",
          icon: ui && new ui.LabIcon({ name: "holdfast:icon", svgstr: ICON }),
          execute: () => {
            window.open(`${app.serviceManager.serverSettings.baseUrl}holdfast/`, "_blank", "noopener");
          },
        });
        launch?.add({ command: COMMAND, category: "Other", rank: 50 });
        palette?.addItem({ command: COMMAND, category: "Holdfast" });
      },
    };
  }

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB.holdfast = {
    init(scope) {
      shared = scope;
    },
    async get(name) {
      if (name !== "./extension") throw new Error(`holdfast has no module ${name}`);
      const module = { __esModule: true, default: await plugin() };
      return () => module;
    },
  };
})();
