/* Copies what a button names: the text in data-copy, or that of the element whose id
   is in data-copy-from. The buttons are hidden until this runs. */
"use strict";
{
    const SHOWN_FOR = 2000;

    const status = document.createElement("div");
    status.className = "visually-hidden";
    status.setAttribute("role", "status");

    function textOf(button) {
        const source = button.dataset.copyFrom;
        if (source === undefined) {
            return button.dataset.copy;
        }
        return document.getElementById(source).textContent;
    }

    // Browsers offer the clipboard to pages that came by HTTPS, or from this machine.
    function copySelected(text) {
        const focused = document.activeElement;
        const area = document.createElement("textarea");
        area.className = "visually-hidden";
        area.readOnly = true;
        area.value = text;
        document.body.append(area);
        area.select();
        const copied = document.execCommand("copy");
        area.remove();
        focused.focus();
        return copied;
    }

    async function copy(text) {
        try {
            await navigator.clipboard.writeText(text);
            return true;
        } catch {
            return copySelected(text);
        }
    }

    // One listener for the buttons of the page and for those that are loaded later.
    document.addEventListener("click", async function(event) {
        const button = event.target.closest("button.celery-monitor-copy");
        if (!button) {
            return;
        }
        const copied = await copy(textOf(button));
        const said = copied ? button.dataset.copied : button.dataset.failed;
        // Said anew even if it is what was said before.
        status.textContent = "";
        setTimeout(function() { status.textContent = said; }, 50);
        button.title = said;
        button.classList.toggle("celery-monitor-copied", copied);
        setTimeout(function() {
            button.title = button.getAttribute("aria-label");
            button.classList.remove("celery-monitor-copied");
        }, SHOWN_FOR);
    });

    document.body.append(status);
    document.documentElement.classList.add("celery-monitor-can-copy");
}
