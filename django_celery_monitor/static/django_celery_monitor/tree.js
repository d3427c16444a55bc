/* Loads the tree of a task into its page when its link is followed, and anew when it is
   followed again. Without this, and where it fails, the link leads to the page of the
   tree. */
"use strict";
{
    async function load(link) {
        const response = await fetch(link.href);
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const tree = page.getElementById("celery-monitor-tree");
        if (!response.ok || tree === null) {
            throw new Error("no tree");
        }
        document.getElementById("celery-monitor-tree")?.remove();
        link.closest(".celery-monitor-tree-place").append(document.adoptNode(tree));
        link.textContent = link.dataset.again;
        tree.tabIndex = -1;
        tree.focus();
    }

    document.addEventListener("click", function(event) {
        const link = event.target.closest("a.celery-monitor-tree-link");
        const elsewhere = event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
        if (!link || elsewhere) {
            return;
        }
        event.preventDefault();
        load(link).catch(function() { window.location.assign(link.href); });
    });
}
