# Login shells of bash and sh reset PATH in /etc/profile.
case ":$PATH:" in
  *:/home/claude/.local/bin:*) ;;
  *) PATH=/home/claude/.local/bin:$PATH ;;
esac
export PATH
