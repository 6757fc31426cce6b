# The operator's shell in an agent. Yours to change: this file lives in the container only.
setopt auto_cd extended_glob interactive_comments no_beep prompt_subst
setopt hist_ignore_dups hist_ignore_space inc_append_history share_history
HISTFILE=~/.zsh_history HISTSIZE=20000 SAVEHIST=20000

autoload -Uz compinit vcs_info add-zsh-hook
compinit -d ~/.cache/zcompdump
zstyle ':completion:*' menu select
zstyle ':completion:*' matcher-list '' 'm:{a-z}={A-Z}'

bindkey -e
bindkey '^[[A' up-line-or-search '^[[B' down-line-or-search
bindkey '^[[H' beginning-of-line '^[[F' end-of-line '^[[3~' delete-char
bindkey '^[[1;5C' forward-word '^[[1;5D' backward-word
[[ -o interactive && -t 0 ]] && source <(fzf --zsh)

zstyle ':vcs_info:*' enable git
zstyle ':vcs_info:git:*' check-for-changes true
zstyle ':vcs_info:git:*' unstagedstr '*'
zstyle ':vcs_info:git:*' stagedstr '+'
zstyle ':vcs_info:git:*' formats ' %F{magenta}%b%F{yellow}%u%c%f'
zstyle ':vcs_info:git:*' actionformats ' %F{magenta}%b %F{red}%a%F{yellow}%u%c%f'
add-zsh-hook precmd vcs_info
PROMPT='%F{blue}%(4~|…/%3~|%~)%f${vcs_info_msg_0_}%(?.. %F{red}%?%f) %# '

alias ls='ls --color=auto' ll='ls -lh --color=auto' la='ls -lah --color=auto' grep='grep --color=auto'
