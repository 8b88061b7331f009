// The view of `UploadBox`: it sends files of the person's own machine from this page to the server of the kernel,
// directly or through the kernel.

import { Box } from "./box.js";
import { List } from "./list.js";

export default () => {
  let box;
  return {
    initialize({ model }) {
      box = new Box(model);
      return () => box.close();
    },
    render({ el }) {
      return box.show(new List(box, el));
    },
  };
};
